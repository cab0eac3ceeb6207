//! The command `wally`, run as a process beside the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

pub fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wally"));
    command.args(args).stdin(Stdio::null());
    command
}

/// How a run of it ended.
pub struct Ran {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn new(output: Output) -> Self {
        let code = output.status.code().expect("it ended by itself");
        let err = String::from_utf8(output.stderr).expect("messages are UTF-8");
        assert!(!err.contains("panicked"), "{err}");
        Self { code, out: output.stdout, err }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text")
    }

    /// It worked and had nothing to complain about.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (0, ""));
        self
    }

    /// It exited with `code` and said why in one line, which has `words` in it.
    #[track_caller]
    pub fn fails(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "{}", self.err);
        assert!(self.err.starts_with("wally: ") && self.err.ends_with('\n'), "{:?}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{:?}", self.err);
        assert!(self.err.contains(words), "{:?} lacks {words:?}", self.err);
        self
    }
}

pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    Ran::new(command(args).output().expect("run"))
}

/// A run that goes on until it ends by itself or is dropped. Its lines are waited for, with no limit and no clock.
pub struct Running {
    pub child: Child,
    out: Option<BufReader<ChildStdout>>,
    err: BufReader<ChildStderr>,
}

impl Running {
    pub fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut command = command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
        let out = Some(BufReader::new(child.stdout.take().expect("piped")));
        let err = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, out, err }
    }

    /// The next line of standard output; `None` at its end.
    pub fn line(&mut self) -> Option<String> {
        read_line(self.out.as_mut().expect("still read"))
    }

    pub fn lines(&mut self, n: usize) -> Vec<String> {
        (0..n).map(|at| self.line().unwrap_or_else(|| panic!("it ended {at} lines on"))).collect()
    }

    /// The next line of standard error.
    pub fn complaint(&mut self) -> String {
        read_line(&mut self.err).expect("it ended")
    }

    /// From now on its output has no reader: the pipe is closed.
    pub fn ignore(&mut self) {
        self.out = None;
    }

    /// Waits until it ends by itself, and returns what was left to be read of it.
    pub fn wait(mut self) -> Ran {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let Some(out) = &mut self.out {
            out.read_to_end(&mut stdout).expect("read");
        }
        self.err.read_to_end(&mut stderr).expect("read");
        Ran::new(Output { status: self.child.wait().expect("wait"), stdout, stderr })
    }

    /// Ends it, and returns what it had still printed.
    pub fn kill(mut self) -> (String, String) {
        self.child.kill().expect("kill");
        let out = std::iter::from_fn(|| self.line()).collect();
        let err = std::iter::from_fn(|| read_line(&mut self.err)).collect();
        (out, err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = from.read_line(&mut line).expect("UTF-8");
    (read > 0).then(|| line.trim_end_matches('\n').to_owned())
}
