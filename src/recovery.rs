//! stub
use crate::file::*;
use crate::index::*;
use crate::*;
/// x
#[derive(Debug)]
pub struct RecoveryReport {
    /// r
    pub records: u64,
}
pub(crate) struct Recovered {
    pub(crate) format: Format,
    pub(crate) index: IndexWriter,
    pub(crate) marked: bool,
    pub(crate) report: RecoveryReport,
}
pub(crate) fn recover(file: &JournalFile, _: Origin, o: &Options) -> Result<Recovered> {
    let mut index = IndexWriter::new(o.index, 1, 0);
    let len = file.len()?;
    let mut at = 0;
    let mut marked = false;
    while at < len {
        let mut h = [0; 16];
        file.read_at(&mut h, at)?;
        let h = crate::format::Header::decode(&h);
        if let Some(crate::format::Sealed::Mark) = h.unseal(at) {
            marked = true;
            break;
        }
        at = h.end(at).unwrap();
        index.push(at);
    }
    if len == 0 {
        marked = crate::cut::leave_mark(file, o.format, 0)?;
    }
    let records = index.last();
    Ok(Recovered { format: o.format, index, marked, report: RecoveryReport { records } })
}
