//! What the plugin pgoutput writes, as far as a merge needs it: transactions, and the rows in them as texts.

use anyhow::{bail, ensure, Context, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// inserted or updated, with all columns
    Put(Vec<Option<String>>),
    /// deleted, with those of its key
    Delete(Vec<Option<String>>),
}

#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub xid: u32,
    /// where its commit ends
    pub end: u64,
    pub changes: Vec<Change>,
}

/// Puts messages together to transactions.
#[derive(Default)]
pub struct Reader {
    open: Option<Transaction>,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        ensure!(self.0.len() >= n, "a message of pgoutput is cut off");
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn tuple(&mut self) -> Result<Vec<Option<String>>> {
        let columns = self.number(2)?;
        (0..columns)
            .map(|_| match self.number(1)? as u8 {
                b'n' | b'u' => Ok(None),
                b't' => {
                    let length = self.number(4)? as usize;
                    Ok(Some(String::from_utf8(self.take(length)?.to_vec())?))
                }
                other => bail!("a column of kind {other}"),
            })
            .collect()
    }
}

impl Reader {
    /// Takes a message; gives the transaction that it completes.
    pub fn take(&mut self, message: &[u8]) -> Result<Option<Transaction>> {
        let mut bytes = Bytes(message);
        let kind = bytes.number(1)? as u8;
        match kind {
            b'B' => {
                bytes.take(16)?;
                self.open = Some(Transaction { xid: bytes.number(4)? as u32, ..Transaction::default() });
            }
            b'C' => {
                bytes.take(9)?;
                let mut done = self.open.take().context("a commit without a beginning")?;
                done.end = bytes.number(8)?;
                return Ok(Some(done));
            }
            b'I' | b'U' | b'D' => {
                bytes.take(4)?;
                let mut old = None;
                let change = loop {
                    match bytes.number(1)? as u8 {
                        b'K' | b'O' if kind == b'D' => break Change::Delete(bytes.tuple()?),
                        b'K' | b'O' => old = Some(bytes.tuple()?),
                        b'N' => break Change::Put(bytes.tuple()?),
                        other => bail!("a tuple of kind {other}"),
                    }
                };
                let open = self.open.as_mut().context("a change without a beginning")?;
                open.changes.extend(old.map(Change::Delete));
                open.changes.push(change);
            }
            _ => {}
        }
        Ok(None)
    }
}
