//! Redis servers of the tests' own, on ports of their own.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Starts a server that ends with its standard input: also when the tests are killed.
const UNTIL_INPUT_ENDS: &str = r#""$@" >log 2>&1 & cat >/dev/null; kill -KILL $!"#;

/// A Redis, which is killed when it is dropped.
#[derive(Debug)]
pub struct RedisServer {
    /// Port of 127.0.0.1 that it listens on.
    pub port: u16,
    process: Child,
    _folder: TempDir,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // Its temporary files go after it.
        let _ = self.process.wait();
    }
}

impl RedisServer {
    /// Starts one with these lines of `redis.conf`.
    #[must_use]
    pub fn start(lines: &[&str]) -> Self {
        Self::launch(lines, &[])
    }

    /// Starts a Sentinel with these lines of its configuration.
    #[must_use]
    pub fn sentinel(lines: &[&str]) -> Self {
        Self::launch(lines, &["--sentinel"])
    }

    fn launch(lines: &[&str], arguments: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(folder.path().join("redis.conf")).unwrap();
        let own = format!("bind 127.0.0.1\nport {port}\nsave \"\"\nappendonly no\ndaemonize no");
        writeln!(file, "{own}\n{}", lines.join("\n")).unwrap();
        let version = Command::new("redis-server").arg("--version").output();
        assert!(
            version.is_ok(),
            "redis-server is not on the PATH: install Redis 7 or later (Debian, Ubuntu: apt-get install redis-server)"
        );
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_INPUT_ENDS, "sh", "redis-server", "redis.conf"]);
        command.args(arguments);
        command.current_dir(folder.path()).stdin(Stdio::piped());
        let server = Self {
            port,
            process: command.spawn().unwrap(),
            _folder: folder,
        };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                start.elapsed() < START_TIMEOUT,
                "redis-server does not start"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Asks it something with its own client, and returns the answer.
    pub fn ask(&self, question: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command
            .args(["-p", &self.port.to_string(), "--no-auth-warning"])
            .args(question);
        let answer = command
            .output()
            .expect("redis-cli is where redis-server is");
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    }
}

/// Returns a port that nobody has.
fn free_port() -> u16 {
    // A node of a Redis Cluster has a second one, 10000 higher.
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 50000 && TcpListener::bind(("127.0.0.1", port + 10000)).is_ok() {
            return port;
        }
    }
}
