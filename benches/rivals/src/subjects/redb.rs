//! redb: a copy-on-write B+ tree in Rust.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::Work;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata, TableDefinition};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// Reads before a reader takes a new transaction.
const READS_A_TRANSACTION: u32 = 1024;

pub(crate) struct Redb {
    database: Database,
    durability: Durability,
    next: AtomicU64,
}

impl Subject for Redb {
    const PROFILE: Profile = Profile {
        name: "redb",
        package: Some("redb"),
        settings: "a transaction an append or batch, `Durability::None` where nothing is synced, `Immediate` where \
                   each append is. A reader takes a new transaction every 1,024 reads",
        less: &[
            "what is not synced stays in its own cache and is lost with the process, not only with the power",
            "checksums of pages are looked at when a database is repaired, not when a record is read",
            "opening after a clean close looks at no record",
            "one transaction a sync: threads do not share syncs",
        ],
        forgets: None,
        reads_once: false,
    };

    type Reader<'a> = TransactionReader<'a>;

    fn less(work: Work) -> Option<&'static str> {
        match work {
            Work::Read { .. } | Work::FanOut { .. } | Work::Scan => Some("does not look at the checksum"),
            Work::Reopen => Some("looks at no record"),
            Work::Append { .. } | Work::AppendLong | Work::Batch => {
                Some("kept in the process until something is synced, and lost with it")
            }
            Work::Durable { .. } => None,
        }
    }

    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        let database = Database::create(dir.join("records.redb"))?;
        let transaction = database.begin_write()?;
        let records = transaction.open_table(RECORDS)?.len()?;
        transaction.commit()?;
        Ok(Self { database, durability, next: AtomicU64::new(records + 1) })
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        self.append_batch(&[payload])
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        self.write(payloads, self.durability)
    }

    fn reader(&self) -> Fallible<TransactionReader<'_>> {
        Ok(TransactionReader { from: self, table: self.table()?, left: READS_A_TRANSACTION })
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        for record in self.table()?.range::<u64>(..)? {
            see(record?.1.value());
        }
        Ok(())
    }

    fn close(self) -> Fallible {
        self.write(&[], Durability::EachAppend)?;
        Ok(self.database.close()?)
    }
}

impl Redb {
    fn table(&self) -> Fallible<ReadOnlyTable<u64, &'static [u8]>> {
        Ok(self.database.begin_read()?.open_table(RECORDS)?)
    }

    fn write(&self, payloads: &[&[u8]], durability: Durability) -> Fallible {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(match durability {
            Durability::OnClose => redb::Durability::None,
            Durability::EachAppend => redb::Durability::Immediate,
        })?;
        let mut table = transaction.open_table(RECORDS)?;
        for payload in payloads {
            // There is one write transaction at a time, so keys come in order.
            table.insert(self.next.fetch_add(1, Ordering::Relaxed), *payload)?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }
}

pub(crate) struct TransactionReader<'a> {
    from: &'a Redb,
    table: ReadOnlyTable<u64, &'static [u8]>,
    left: u32,
}

impl Reader for TransactionReader<'_> {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        if self.left == 0 {
            self.table = self.from.table()?;
            self.left = READS_A_TRANSACTION;
        }
        self.left -= 1;
        let record = self.table.get(n)?.ok_or("no such record")?;
        Ok(see(record.value()))
    }
}
