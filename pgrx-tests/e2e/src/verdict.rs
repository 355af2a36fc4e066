//! The closing line that every program ends with.

/// Counts checks; a failed one is printed when it happens, so that a long run shows it early.
#[derive(Default)]
pub struct Verdict {
    passed: u64,
    failed: u64,
}

impl Verdict {
    pub fn check(&mut self, ok: bool, what: impl AsRef<str>) {
        if ok {
            self.passed += 1;
            println!("ok      {}", what.as_ref());
        } else {
            self.failed += 1;
            println!("FAILED  {}", what.as_ref());
        }
    }

    /// Prints the closing line and gives the process's exit code.
    pub fn close(self) -> std::process::ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 && self.passed > 0 {
            std::process::ExitCode::SUCCESS
        } else {
            std::process::ExitCode::FAILURE
        }
    }
}
