//! The writer of the models: `src/writer.rs` and `src/truncate.rs` without a file, over the real index, view and
//! publisher.

use std::rc::Rc;

use crate::file::map::{File, Map, RECORD_LEN};
use crate::index::IndexWriter;
use crate::options::IndexMode;
use crate::sync::Arc;
use crate::view::View;
use crate::view::generation::{Generation, Generations};
use crate::view::publish::{Publisher, Retired};

pub(crate) struct Writer {
    file: Rc<File>,
    index: IndexWriter,
    generations: Generations,
    view: Arc<View>,
    retired: Retired<View>,
    pub(crate) publisher: Publisher<View>,
}

impl Writer {
    pub(crate) fn new(mode: IndexMode) -> Self {
        let file = Rc::default();
        let mut index = IndexWriter::new(mode, 1, 0);
        index.reserve(1).unwrap();
        let generations = Generations::new();
        let (map, generation) = (Map::new(&file), Arc::clone(generations.current()));
        let view = Arc::new(View::new(map, index.index().share(), generation, 0, 0));
        let publisher = Publisher::new(Arc::clone(&view));
        Self { file, index, generations, view, retired: Retired::new(), publisher }
    }

    /// Appends records without letting readers see them.
    pub(crate) fn stage(&mut self, payloads: &[u8]) {
        for &payload in payloads {
            self.index.reserve(1).unwrap();
            self.file.write(self.index.last() as usize, payload);
            self.index.push(self.index.end() + RECORD_LEN);
        }
    }

    /// Appends records and lets readers see them in the current view.
    pub(crate) fn commit(&mut self, payloads: &[u8]) {
        self.stage(payloads);
        self.publish_staged();
    }

    /// Appends records and lets readers see them in a view with a larger map.
    pub(crate) fn grow(&mut self, payloads: &[u8]) {
        self.stage(payloads);
        self.publish();
    }

    /// Lets readers see what was staged.
    pub(crate) fn publish_staged(&mut self) {
        match self.view.index().same(self.index.index()) {
            true => self.view.commit(self.index.last(), self.index.end()),
            false => self.publish(),
        }
    }

    /// The last record, staged ones included, and the last that readers see.
    pub(crate) fn lasts(&self) -> (u64, u64) {
        (self.index.last(), self.view.committed())
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        self.generations.current()
    }

    /// Keeps the records up to `n`, without touching what lies beyond them.
    pub(crate) fn cut(&mut self, n: u64) {
        self.index = self.index.cut(n, n * RECORD_LEN);
        self.generations.cut(n);
        self.publish();
        for view in self.retired.held() {
            view.preserve(self.index.index(), n, Map::preserve).unwrap();
        }
    }

    fn publish(&mut self) {
        let map = Map::new(&self.file);
        let (last, end) = (self.index.last(), self.index.end());
        let generation = Arc::clone(self.generations.current());
        let view = View::new(map, self.index.index().share(), generation, last, end);
        self.retired.replace(&self.publisher, &mut self.view, view);
    }

    /// How many replaced views someone still holds.
    pub(crate) fn held(&mut self) -> usize {
        self.retired.held().len()
    }
}

/// The payload of record `n` as `view` shows it to someone who was told that the journal ends at `last`.
pub(crate) fn payload(view: &View, n: u64, last: u64) -> u8 {
    let extent = view.locate(n, last, &mut None).expect("a record that was told of has a place");
    assert_eq!((extent.start, extent.end), ((n - 1) * RECORD_LEN, n * RECORD_LEN), "record {n}");
    view.payload(extent).expect("a record that was told of has its bytes")[0]
}

/// Looks at every record of `view` up to its count, which is returned; each must be whole.
pub(crate) fn read_all(view: &View, payloads: &[u8]) -> u64 {
    let last = view.committed();
    for n in 1..=last {
        assert_eq!(payload(view, n, last), payloads[n as usize - 1], "record {n} of {last}");
    }
    last
}
