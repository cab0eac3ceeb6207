//! LMDB through heed: a B+ tree in a memory map.
#![allow(unsafe_code)] // Opening a memory map that others could shrink is unsafe, and so are flags that weaken it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::Work;
use heed::types::Bytes;
use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, IntegerComparator, PutFlags, RoTxn, WithoutTls,
};

/// How far the map can ever grow: address space, set beforehand.
const MAP: usize = 16 << 30;

/// Reads before a reader takes a new transaction.
const READS_A_TRANSACTION: u32 = 1024;

type Records = Database<'static, Bytes, Bytes, IntegerComparator>;

pub(crate) struct Lmdb {
    env: Env<WithoutTls>,
    records: Records,
    next: AtomicUsize,
}

impl Subject for Lmdb {
    const PROFILE: Profile = Profile {
        name: "LMDB (heed)",
        package: Some("heed"),
        settings: "integer keys, `MDB_APPEND`, a transaction an append or batch; `WRITEMAP | NOSYNC` where nothing is \
                   synced, its defaults where each append is. A reader takes a new transaction every 1,024 reads",
        less: &[
            "no checksum",
            "the map cannot grow past a size set beforehand",
            "opening looks at no record",
            "one transaction a sync: threads do not share syncs",
        ],
        forgets: None,
        reads_once: false,
    };

    type Reader<'a> = TransactionReader<'a>;

    fn less(work: Work) -> Option<&'static str> {
        match work {
            Work::Reopen => Some("looks at no record"),
            _ => Some("no checksum"),
        }
    }

    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP);
        if durability == Durability::OnClose {
            // SAFETY: without syncs a power cut can break the file. It is a measurement's own and goes with it.
            unsafe { options.flags(EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC) };
        }
        // SAFETY: the folder is this process's own; nobody else changes or shrinks the file.
        let env = unsafe { options.open(dir)? };
        let transaction = env.write_txn()?;
        let records: Records = env
            .create_databases_and_commit(transaction, |opener, transaction| {
                let options =
                    opener.database_options().types::<Bytes, Bytes>().key_comparator::<IntegerComparator>();
                options.create(transaction).map(CommitOrAbort::<_, ()>::Commit)
            })?
            .unwrap_commit();
        let transaction = env.read_txn()?;
        let next = records.len(&transaction)? + 1;
        drop(transaction);
        Ok(Self { env, records, next: AtomicUsize::new(usize::try_from(next)?) })
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        self.append_batch(&[payload])
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        let mut transaction = self.env.write_txn()?;
        for payload in payloads {
            // There is one write transaction at a time, so keys come in order.
            let key = self.next.fetch_add(1, Ordering::Relaxed).to_ne_bytes();
            self.records.put_with_flags(&mut transaction, PutFlags::APPEND, &key, payload)?;
        }
        Ok(transaction.commit()?)
    }

    fn reader(&self) -> Fallible<TransactionReader<'_>> {
        Ok(TransactionReader { from: self, transaction: self.env.read_txn()?, left: READS_A_TRANSACTION })
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        let transaction = self.env.read_txn()?;
        for record in self.records.iter(&transaction)? {
            see(record?.1);
        }
        Ok(())
    }

    fn close(self) -> Fallible {
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

pub(crate) struct TransactionReader<'a> {
    from: &'a Lmdb,
    transaction: RoTxn<'a, WithoutTls>,
    left: u32,
}

impl Reader for TransactionReader<'_> {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        if self.left == 0 {
            self.transaction = self.from.env.read_txn()?;
            self.left = READS_A_TRANSACTION;
        }
        self.left -= 1;
        let key = usize::try_from(n)?.to_ne_bytes();
        self.from.records.get(&self.transaction, &key)?.map(see).ok_or_else(|| "no such record".into())
    }
}
