//! The client that times: the wire protocol over the cluster's socket, every answer read to its end and thrown away.
//!
//! `postgres::Client` would be on the clock, too: its runtime costs more than the server's `SELECT 1` does, so that every
//! ratio of short statements would look better than it is, and 300,000 `CopyData` messages each become a value there.

use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{anyhow, bail, ensure, Result};
use postgres::config::Host;
use postgres::Config;

/// Larger than a Unix socket's buffer: one read takes all that is there.
const BUFFER: usize = 256 << 10;

pub struct Wire {
    stream: UnixStream,
    /// What was read and not yet looked at is `buffer[at..filled]`.
    buffer: Box<[u8]>,
    at: usize,
    filled: usize,
    /// The backend's process id.
    pub pid: u32,
}

/// What an answer was, without keeping it.
#[derive(Default, Debug, Clone, Copy)]
pub struct Taken {
    /// Of rows and copied data, without the protocol's headers.
    pub bytes: u64,
    pub rows: u64,
}

/// What to do with the rows.
enum Keep<'a> {
    Nothing,
    /// The first column of each row.
    First(&'a mut Vec<Vec<u8>>),
}

impl Wire {
    pub fn connect(config: &Config) -> Result<Self> {
        let [Host::Unix(directory)] = config.get_hosts() else { bail!("the cluster is reached over a unix socket") };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let stream = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}")))?;
        let mut wire = Self { stream, buffer: vec![0; BUFFER].into_boxed_slice(), at: 0, filled: 0, pid: 0 };
        let mut body = Vec::new();
        body.extend_from_slice(&196_608_i32.to_be_bytes()); // protocol 3.0
        let user = config.get_user().unwrap_or("postgres");
        for text in ["user", user, "database", config.get_dbname().unwrap_or(user), "application_name", "bench"] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut message = i32::try_from(body.len() + 4)?.to_be_bytes().to_vec();
        message.extend_from_slice(&body);
        wire.stream.write_all(&message)?;
        wire.take(Keep::Nothing)?;
        ensure!(wire.pid != 0, "the server named no backend");
        Ok(wire)
    }

    /// Runs statements by the simple protocol.
    pub fn run(&mut self, sql: &str) -> Result<Taken> {
        self.send_query(sql)?;
        self.take(Keep::Nothing)
    }

    /// The first column of the first row.
    pub fn text(&mut self, sql: &str) -> Result<String> {
        self.send_query(sql)?;
        self.first()
    }

    /// The first column of all rows.
    pub fn column(&mut self, sql: &str) -> Result<Vec<String>> {
        self.send_query(sql)?;
        let mut rows = Vec::new();
        self.take(Keep::First(&mut rows))?;
        Ok(rows.into_iter().map(String::from_utf8).collect::<Result<_, _>>()?)
    }

    /// A named prepared statement; the server infers the types of its parameters.
    pub fn prepare(&mut self, name: &str, sql: &str) -> Result<()> {
        let mut out = Vec::new();
        message(&mut out, b'P', &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"])?;
        message(&mut out, b'S', &[])?;
        self.stream.write_all(&out)?;
        self.take(Keep::Nothing)?;
        Ok(())
    }

    /// Executes a prepared statement; parameters and results are text.
    pub fn execute(&mut self, name: &str, parameters: &[&str]) -> Result<Taken> {
        self.send_execute(name, parameters)?;
        self.take(Keep::Nothing)
    }

    /// The same, with the first column of the first row.
    pub fn execute_text(&mut self, name: &str, parameters: &[&str]) -> Result<String> {
        self.send_execute(name, parameters)?;
        self.first()
    }

    fn first(&mut self) -> Result<String> {
        let mut rows = Vec::new();
        self.take(Keep::First(&mut rows))?;
        let first = rows.into_iter().next().ok_or_else(|| anyhow!("no row came"))?;
        Ok(String::from_utf8(first)?)
    }

    fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut out = Vec::with_capacity(sql.len() + 6);
        message(&mut out, b'Q', &[sql.as_bytes(), b"\0"])?;
        Ok(self.stream.write_all(&out)?)
    }

    fn send_execute(&mut self, name: &str, parameters: &[&str]) -> Result<()> {
        let count = u16::try_from(parameters.len())?.to_be_bytes();
        let lengths: Vec<[u8; 4]> =
            parameters.iter().map(|p| Ok(i32::try_from(p.len())?.to_be_bytes())).collect::<Result<_>>()?;
        // Portal "", the statement, no formats (all text), the values, no result formats (all text).
        let mut bind: Vec<&[u8]> = vec![b"\0", name.as_bytes(), b"\0", b"\0\0", &count];
        for (length, value) in lengths.iter().zip(parameters) {
            bind.extend([length.as_slice(), value.as_bytes()]);
        }
        bind.push(b"\0\0");
        let mut out = Vec::with_capacity(64 + parameters.iter().map(|p| p.len() + 4).sum::<usize>());
        message(&mut out, b'B', &bind)?;
        message(&mut out, b'E', &[b"\0\0\0\0\0"])?;
        message(&mut out, b'S', &[])?;
        Ok(self.stream.write_all(&out)?)
    }

    /// Reads up to and including ReadyForQuery.
    fn take(&mut self, mut keep: Keep) -> Result<Taken> {
        let mut taken = Taken::default();
        let mut failure: Option<String> = None;
        loop {
            let mut header = [0; 5];
            self.read(&mut header)?;
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize - 4;
            match header[0] {
                b'D' => {
                    taken.rows += 1;
                    taken.bytes += length as u64;
                    match &mut keep {
                        Keep::Nothing => self.skip(length)?,
                        Keep::First(rows) => {
                            let mut row = vec![0; length];
                            self.read(&mut row)?;
                            rows.push(first_column(&row));
                        }
                    }
                }
                b'd' => {
                    taken.rows += 1;
                    taken.bytes += length as u64;
                    self.skip(length)?;
                }
                b'E' => {
                    let mut body = vec![0; length];
                    self.read(&mut body)?;
                    failure.get_or_insert(error_text(&body));
                }
                b'K' => {
                    let mut key = [0; 8];
                    self.read(&mut key)?;
                    self.pid = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
                }
                b'R' => {
                    let mut body = vec![0; length];
                    self.read(&mut body)?;
                    ensure!(body == [0; 4], "the cluster asks for a password");
                }
                b'Z' => {
                    self.skip(length)?;
                    return failure.map_or(Ok(taken), |text| Err(anyhow!(text)));
                }
                _ => self.skip(length)?,
            }
            // FATAL: no ReadyForQuery follows.
            if let (Some(text), b'E') = (&failure, header[0]) {
                ensure!(!text.starts_with("FATAL"), "{text}");
            }
        }
    }

    fn fill(&mut self) -> Result<()> {
        self.at = 0;
        self.filled = self.stream.read(&mut self.buffer)?;
        ensure!(self.filled > 0, "the server closed the connection");
        Ok(())
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            if self.at == self.filled {
                self.fill()?;
            }
            let n = (out.len() - done).min(self.filled - self.at);
            out[done..done + n].copy_from_slice(&self.buffer[self.at..self.at + n]);
            self.at += n;
            done += n;
        }
        Ok(())
    }

    fn skip(&mut self, mut length: usize) -> Result<()> {
        while length > 0 {
            if self.at == self.filled {
                self.fill()?;
            }
            let n = length.min(self.filled - self.at);
            self.at += n;
            length -= n;
        }
        Ok(())
    }
}

fn message(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) -> Result<()> {
    let length: usize = parts.iter().map(|p| p.len()).sum::<usize>() + 4;
    out.push(kind);
    out.extend_from_slice(&i32::try_from(length)?.to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Of a DataRow; NULL reads as empty.
fn first_column(row: &[u8]) -> Vec<u8> {
    let Some(length) = row.get(2..6) else { return Vec::new() };
    let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    usize::try_from(length).map_or_else(|_| Vec::new(), |length| row[6..6 + length].to_vec())
}

/// Severity, SQLSTATE, message and detail.
fn error_text(body: &[u8]) -> String {
    let fields: Vec<String> = body
        .split(|b| *b == 0)
        .filter(|f| matches!(f.first(), Some(b'V' | b'C' | b'M' | b'D')))
        .map(|f| String::from_utf8_lossy(&f[1..]).into_owned())
        .collect();
    fields.join(": ")
}
