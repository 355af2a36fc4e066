//! A throwaway PostgreSQL cluster: made by initdb, reached over a unix socket only, gone when dropped.
//!
//! Environment:
//! - `SNAPSYNC_PG_BIN`: the bindir of the Postgres tree to run (with the extension installed where a test needs it)
//! - `SNAPSYNC_RUN_AS`: the unprivileged user that runs the server when we are root (the server refuses root)
//! - `SNAPSYNC_STATE`: the directory for the data; default: the system's temporary directory

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use postgres::{Client, Config, NoTls};

/// The socket's file name holds a port number; any will do, as each cluster has its own socket directory.
const PORT: u16 = 5432;
/// A unix socket's path must fit into 107 bytes, file name included.
const LONGEST_SOCKET_DIR: usize = 85;

/// What the signal handler has to clean up: postmaster pids, where they run, and directories of the clusters.
static RUNNING: Mutex<Vec<(Option<u32>, PathBuf)>> = Mutex::new(Vec::new());
static HANDLER: AtomicBool = AtomicBool::new(false);
static COUNTER: AtomicU32 = AtomicU32::new(0);

pub struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    run_as: Option<RunAs>,
    postmaster: Child,
    /// Stopped in order, with the data left in place.
    halted: bool,
    databases: AtomicU32,
}

/// The user and group ids that the server runs as, where they differ from ours.
#[derive(Clone, Copy)]
struct RunAs {
    uid: u32,
    gid: u32,
}

impl Cluster {
    /// Makes and starts a cluster. `settings` are added to postgresql.conf, after the harness's own.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_of("SNAPSYNC_PG_BIN", settings)
    }

    /// The same of the Postgres tree that another variable names: of another build of the extension, say.
    pub fn start_of(variable: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::make(variable, |bin, dir, run_as| {
            initdb(bin, dir, run_as, settings).and_then(|()| spawn(bin, dir, run_as))
        })
    }

    fn make(variable: &str, begin: impl FnOnce(&Path, &Path, Option<RunAs>) -> Result<Child>) -> Result<Self> {
        install_signal_handler()?;
        let bin = PathBuf::from(
            std::env::var_os(variable)
                .ok_or_else(|| anyhow!("set {variable} to the bindir of a Postgres tree (where initdb is)"))?,
        );
        let run_as = run_as()?;
        let state = std::env::var_os("SNAPSYNC_STATE").map_or_else(std::env::temp_dir, PathBuf::from);
        fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
        let state = if state.as_os_str().len() > LONGEST_SOCKET_DIR - 25 { std::env::temp_dir() } else { state };
        let nth = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = state.join(format!("ss-e2e-{}-{nth}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        if let Some(user) = run_as {
            std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.gid))?;
        }
        let postmaster = match begin(&bin, &dir, run_as) {
            Ok(child) => child,
            Err(e) => {
                let _ = fs::remove_dir_all(&dir);
                return Err(e);
            }
        };
        RUNNING.lock().unwrap().push((Some(postmaster.id()), dir.clone()));
        let mut cluster = Self { bin, dir, run_as, postmaster, halted: false, databases: AtomicU32::new(0) };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            match self.config("postgres").connect(NoTls) {
                Ok(_) => return Ok(()),
                Err(e) if started.elapsed() > Duration::from_secs(60) => {
                    bail!("the server did not start: {e}\n{}", self.log_tail(30))
                }
                Err(_) => {}
            }
            if let Some(status) = self.postmaster.try_wait()? {
                bail!("the server stopped at once ({status})\n{}", self.log_tail(30));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Connection settings of the bootstrap superuser for a database.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host(self.dir.join("s").to_str().expect("the state directory's path is UTF-8"))
            .port(PORT)
            .user("postgres")
            .dbname(database)
            .application_name("snapsync-e2e");
        config
    }

    pub fn connect(&self, database: &str) -> Result<Client> {
        Ok(self.config(database).connect(NoTls)?)
    }

    pub fn connect_as(&self, database: &str, user: &str) -> Result<Client> {
        Ok(self.config(database).user(user).connect(NoTls)?)
    }

    /// A new UTF8 database of its own name, so that tests can share one server.
    pub fn create_database(&self, prefix: &str) -> Result<String> {
        let nth = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}_{nth}");
        self.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        Ok(name)
    }

    pub fn drop_database(&self, name: &str) -> Result<()> {
        Ok(self.connect("postgres")?.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))?)
    }

    /// Stops the server in order, so that its data needs no recovery: for `single_user`.
    pub fn halt(&mut self) -> Result<()> {
        signal(self.postmaster.id(), libc::SIGINT);
        let status = self.postmaster.wait()?;
        self.halted = true;
        // The pid may soon be another process's.
        for (pid, dir) in RUNNING.lock().unwrap().iter_mut() {
            if *dir == self.dir {
                *pid = None;
            }
        }
        anyhow::ensure!(status.success(), "the server did not stop in order ({status})\n{}", self.log_tail(30));
        Ok(())
    }

    /// The server and all its processes are killed, as by a power cut.
    pub fn crash(&mut self) -> Result<()> {
        let postmaster = self.postmaster.id();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        signal(postmaster, libc::SIGKILL);
        children.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
        self.postmaster.wait()?;
        let gone = Instant::now();
        while children.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            anyhow::ensure!(gone.elapsed() < Duration::from_secs(20), "a backend does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.halted = true;
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        Ok(())
    }

    /// Starts a server that was halted, or has crashed, with the data that it has.
    pub fn start_again(&mut self) -> Result<()> {
        self.postmaster = spawn(&self.bin, &self.dir, self.run_as)?;
        self.halted = false;
        for (pid, dir) in RUNNING.lock().unwrap().iter_mut() {
            if *dir == self.dir {
                *pid = Some(self.postmaster.id());
            }
        }
        self.wait_until_ready()
    }

    /// A cluster of its own with data that `fill` puts into the directory that it is given, started.
    pub fn start_from(fill: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        Self::make("SNAPSYNC_PG_BIN", |bin, dir, run_as| {
            let sockets = dir.join("s");
            fs::create_dir(&sockets)?;
            if let Some(user) = run_as {
                std::os::unix::fs::chown(&sockets, Some(user.uid), Some(user.gid))?;
            }
            let data = dir.join("data");
            fill(&data)?;
            let mut conf = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
            writeln!(conf, "unix_socket_directories = '{}'", sockets.display())?;
            spawn(bin, dir, run_as)
        })
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("s")
    }

    /// A program of this Postgres, or of the system, run as the server's user; what it prints where it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<std::result::Result<(), String>> {
        let own = self.bin.join(program);
        let program = if own.exists() { own } else { PathBuf::from(program) };
        let output = command(program, &self.dir, self.run_as)
            .env("PGHOST", self.socket())
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", "postgres")
            .args(arguments)
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(if output.status.success() { Ok(()) } else { Err(text) })
    }

    /// A single-user backend over the halted cluster's data, run by another program (`["valgrind", ...]`); it takes
    /// statements on its standard input, one a line.
    pub fn single_user(&self, runner: &[&str], database: &str) -> Command {
        let program = runner.first().map_or_else(|| self.bin.join("postgres"), PathBuf::from);
        let mut backend = command(program, &self.dir, self.run_as);
        if !runner.is_empty() {
            backend.args(&runner[1..]).arg(self.bin.join("postgres"));
        }
        backend.args(["--single", "-D"]).arg(self.dir.join("data")).arg(database);
        backend
    }

    /// The last lines of the server's log, for error reports.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Whether the log tells of a backend that died: no test may pass over that.
    pub fn crashed(&self) -> bool {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        text.contains("was terminated by signal") || text.contains("PANIC:")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = self.postmaster.id();
        // Immediate shutdown: nothing of a throwaway cluster is worth a checkpoint.
        if !self.halted {
            signal(pid, libc::SIGQUIT);
            let _ = self.postmaster.wait();
        }
        // Dropped during a panic as well; a poisoned lock must not keep the directory.
        RUNNING.lock().unwrap_or_else(|e| e.into_inner()).retain(|(_, dir)| *dir != self.dir);
        if std::env::var_os("SNAPSYNC_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn initdb(bin: &Path, dir: &Path, run_as: Option<RunAs>, settings: &[(&str, &str)]) -> Result<()> {
    let data = dir.join("data");
    let output = command(bin.join("initdb"), dir, run_as)
        .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
        .arg(&data)
        .output()
        .with_context(|| format!("cannot run initdb in {}", bin.display()))?;
    if !output.status.success() {
        bail!("initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let sockets = dir.join("s");
    fs::create_dir(&sockets)?;
    if let Some(user) = run_as {
        std::os::unix::fs::chown(&sockets, Some(user.uid), Some(user.gid))?;
    }
    let mut conf = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
    writeln!(
        conf,
        "listen_addresses = ''\nport = {PORT}\nunix_socket_directories = '{}'\nfsync = off\nfull_page_writes = off\n\
         wal_level = logical\nmax_prepared_transactions = 100\nmax_connections = 60\nshared_buffers = '256MB'\n\
         max_wal_size = '4GB'\ntimezone = 'UTC'\nlog_min_messages = warning\n\
         log_min_error_statement = panic",
        sockets.display()
    )?;
    for (name, value) in settings {
        writeln!(conf, "{name} = '{value}'")?;
    }
    Ok(())
}

fn spawn(bin: &Path, dir: &Path, run_as: Option<RunAs>) -> Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
    let mut postgres = command(bin.join("postgres"), dir, run_as);
    postgres.arg("-D").arg(dir.join("data")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Its own process group: a Ctrl-C at the terminal is for us, and we stop the server ourselves.
    postgres.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches nothing of this process's memory.
    unsafe {
        postgres.pre_exec(|| {
            // Killed hard (SIGKILL), we cannot clean up; the server must not outlive us all the same.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT);
            Ok(())
        });
    }
    postgres.spawn().with_context(|| format!("cannot start the server in {}", bin.display()))
}

fn command(program: PathBuf, dir: &Path, run_as: Option<RunAs>) -> Command {
    let mut command = Command::new(program);
    // RUST_BACKTRACE in the server's environment would put a backtrace into every error's DETAIL.
    command.env_remove("RUST_BACKTRACE").env_remove("PGDATA").env("LC_ALL", "C").current_dir(dir);
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn run_as() -> Result<Option<RunAs>> {
    let name = std::env::var("SNAPSYNC_RUN_AS").unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let fields: Vec<&str> = passwd
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.len() > 3 && f[0] == name)
        .ok_or_else(|| anyhow!("SNAPSYNC_RUN_AS: there is no user {name}"))?;
    Ok(Some(RunAs { uid: fields[2].parse()?, gid: fields[3].parse()? }))
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: kill has no memory effects; the pid is a child of ours that was not waited for yet.
    unsafe { libc::kill(pid as i32, signal) };
}

fn install_signal_handler() -> Result<()> {
    if HANDLER.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    ctrlc::set_handler(|| {
        for (pid, dir) in RUNNING.lock().unwrap_or_else(|e| e.into_inner()).drain(..) {
            if let Some(pid) = pid {
                signal(pid, libc::SIGQUIT);
            }
            // The postmaster needs a moment to take its children down before the files go.
            std::thread::sleep(Duration::from_millis(300));
            let _ = fs::remove_dir_all(dir);
        }
        std::process::exit(130);
    })
    .context("cannot install the signal handler")
}
