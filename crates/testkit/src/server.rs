//! The built binary in a folder of its own.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::{APP_ID, Admin, Api, Client, KEY, OWNER, PASSWORD, SECRET};

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running server, which is killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    folder: TempDir,
    settings: Vec<(String, String)>,
    child: Child,
    /// Address that it listens on.
    pub address: SocketAddr,
}

impl Server {
    /// Starts `binary` with the test app and these settings, each `NAME=VALUE` as `--set` takes them.
    pub async fn start(binary: &str, settings: &[&str]) -> Self {
        let (folder, all) = prepare(binary, settings, free_address());
        let address = all[0].1.parse().unwrap();
        Self::spawn(binary.into(), folder, all, address).await
    }

    /// Starts `binary` as [`Self::start`] does, with more environment variables, which keep their names.
    pub async fn start_in(binary: &str, settings: &[&str], environment: &[(&str, &str)]) -> Self {
        let (folder, mut all) = prepare(binary, settings, free_address());
        let address = all[0].1.parse().unwrap();
        all.extend(owned(environment));
        Self::spawn(binary.into(), folder, all, address).await
    }

    /// Starts two nodes of one installation, each with a copy of its store and an environment of its own.
    pub async fn start_two_in(
        binary: &str,
        settings: &[&str],
        environments: [&[(&str, &str)]; 2],
    ) -> [Self; 2] {
        let (one, all) = prepare(binary, settings, free_address());
        let two = tempfile::tempdir().unwrap();
        let data = |folder: &TempDir| folder.path().join("data");
        std::fs::create_dir(data(&two)).unwrap();
        for file in std::fs::read_dir(data(&one)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), data(&two).join(file.file_name())).unwrap();
        }
        let mut nodes = Vec::new();
        for (folder, environment) in [one, two].into_iter().zip(environments) {
            let (mut all, address) = (all.clone(), free_address());
            all[0].1 = address.to_string();
            all[1].1 = data(&folder).display().to_string();
            all.extend(owned(environment));
            nodes.push(Self::spawn(binary.into(), folder, all, address).await);
        }
        nodes.try_into().unwrap()
    }

    /// Starts `binary` on a socket that the caller holds: the process inherits it, as from systemd.
    pub async fn start_on(binary: &str, settings: &[&str], socket: &TcpListener) -> Self {
        let mut address = socket.local_addr().unwrap();
        let (folder, settings) = prepare(binary, settings, address);
        address.set_ip(Ipv4Addr::LOCALHOST.into());
        let mut server = Self {
            binary: binary.into(),
            child: serve_on(Path::new(binary), folder.path(), &settings, socket),
            folder,
            settings,
            address,
        };
        server.wait_until_ready().await;
        server
    }

    /// Starts it again, after it has stopped, on a socket that the caller holds.
    pub async fn start_again_on(&mut self, socket: &TcpListener) {
        self.child = serve_on(&self.binary, self.folder.path(), &self.settings, socket);
        self.wait_until_ready().await;
    }

    /// Starts `binary` with only its address configured, in this environment.
    pub async fn start_bare(binary: &str, environment: &[(&str, &str)]) -> Self {
        let address = free_address();
        let mut settings = vec![("FANFARE_LISTEN".to_owned(), address.to_string())];
        settings.extend(owned(environment));
        Self::spawn(
            binary.into(),
            tempfile::tempdir().unwrap(),
            settings,
            address,
        )
        .await
    }

    async fn spawn(
        binary: PathBuf,
        folder: TempDir,
        settings: Vec<(String, String)>,
        address: SocketAddr,
    ) -> Self {
        let child = serve(&binary, folder.path(), &settings);
        let mut server = Self {
            binary,
            folder,
            settings,
            child,
            address,
        };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&mut self) {
        let start = Instant::now();
        while !self.is_ready().await {
            assert!(
                self.child.try_wait().unwrap().is_none(),
                "the server ended: {}",
                self.log()
            );
            assert!(
                start.elapsed() < START_TIMEOUT,
                "the server does not listen: {}",
                self.log()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address).await else {
            return false;
        };
        let request = b"GET /readyz HTTP/1.0\r\n\r\n";
        let mut answer = Vec::new();
        stream.write_all(request).await.is_ok()
            && stream.read_to_end(&mut answer).await.is_ok()
            && answer.starts_with(b"HTTP/1.0 200")
    }

    /// Runs the binary's command line on the same store.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        command(&self.binary, self.folder.path(), &self.settings)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Starts the binary's command line on the same store, without its output.
    #[must_use]
    pub fn start_command(&self, arguments: &[&str]) -> Child {
        command(&self.binary, self.folder.path(), &self.settings)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts the binary's command line on the same store, and leaves its standard output to the caller.
    #[must_use]
    pub fn start_printing_command(&self, arguments: &[&str]) -> Child {
        command(&self.binary, self.folder.path(), &self.settings)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs the command line with more environment variables, and this standard input.
    #[must_use]
    pub fn run_with(
        &self,
        environment: &[(&str, &str)],
        stdin: &str,
        arguments: &[&str],
    ) -> Output {
        let mut command = command(&self.binary, self.folder.path(), &self.settings);
        output(
            command.envs(environment.iter().copied()).args(arguments),
            stdin,
        )
    }

    /// Runs the command line as on another machine: in `folder`, with nothing of this server but the arguments.
    #[must_use]
    pub fn run_elsewhere(
        &self,
        folder: &Path,
        environment: &[(&str, &str)],
        stdin: &str,
        arguments: &[&str],
    ) -> Output {
        let mut command = command(&self.binary, folder, &[]);
        output(
            command.envs(environment.iter().copied()).args(arguments),
            stdin,
        )
    }

    /// Returns its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn run_ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the folder that it runs in, which contains its data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns what the server printed on standard output.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    /// Returns what the server logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, as an orchestrator does.
    pub fn terminate(&self) {
        let killed = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
    }

    /// Kills it, as the kernel does when memory is short, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.stopped().await;
    }

    /// Waits until it has stopped, and returns its exit code.
    pub async fn stopped(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                start.elapsed() < START_TIMEOUT,
                "the server does not stop: {}",
                self.log()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops it and starts it again with one more setting, as `--set` takes its name.
    pub async fn restart_with(&mut self, setting: &str, value: &str) {
        let variable = format!("FANFARE_{}", setting.to_uppercase().replace('.', "_"));
        self.settings.push((variable, value.into()));
        self.restart().await;
    }

    /// Stops it and starts it again on the same store and address.
    pub async fn restart(&mut self) {
        self.terminate();
        self.stopped().await;
        self.start_again().await;
    }

    /// Starts it again, after it has stopped, on the same store and address.
    pub async fn start_again(&mut self) {
        self.child = serve(&self.binary, self.folder.path(), &self.settings);
        self.wait_until_ready().await;
    }

    /// Returns a WebSocket client that was greeted.
    pub async fn connect(&self) -> Client {
        Client::connect(
            self.address,
            &format!("/app/{KEY}?protocol=7&client=js&version=8.6.0&flash=false"),
        )
        .await
    }

    /// Returns its owner, signed in. The server must be started with [`OWNER_SETTING`](crate::OWNER_SETTING).
    pub async fn owner(&self) -> Admin {
        let nobody = Admin::nobody(self.address);
        nobody.sign_in(OWNER, PASSWORD).await.0
    }

    /// Returns a client of the HTTP API as the test app's backend.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::new(self.address, APP_ID, KEY, SECRET)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have stopped by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a folder whose store has the test app, and the environment of a server on it that listens on `address`.
fn prepare(
    binary: &str,
    settings: &[&str],
    address: SocketAddr,
) -> (TempDir, Vec<(String, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = vec![
        ("FANFARE_LISTEN".to_owned(), address.to_string()),
        (
            "FANFARE_DATA_DIR".to_owned(),
            folder.path().join("data").display().to_string(),
        ),
        ("FANFARE_DRAIN_PERIOD".to_owned(), "1".to_owned()),
    ];
    for setting in settings {
        let (name, value) = setting.split_once('=').unwrap();
        all.push((
            format!("FANFARE_{}", name.to_uppercase().replace('.', "_")),
            value.to_owned(),
        ));
    }
    // A command begins an installation only in a folder that exists.
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let create = [
        "app",
        "create",
        "--name",
        "Test",
        "--client-events",
        "--id",
        APP_ID,
        "--key",
        KEY,
        "--secret",
        SECRET,
    ];
    let created = command(Path::new(binary), folder.path(), &all)
        .args(create)
        .output()
        .unwrap();
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    (folder, all)
}

/// Starts the server with `socket` as the first inherited descriptor.
fn serve_on(
    binary: &Path,
    folder: &Path,
    settings: &[(String, String)],
    socket: &TcpListener,
) -> Child {
    let log = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
    // The shell moves the socket to the descriptor that the protocol expects, and becomes the server.
    let inherit = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve 3<&0 0</dev/null";
    command(Path::new("/bin/sh"), folder, settings)
        .args(["-c", inherit])
        .arg(binary)
        .stdin(OwnedFd::from(socket.try_clone().unwrap()))
        .stdout(log("stdout"))
        .stderr(log("stderr"))
        .spawn()
        .unwrap()
}

fn serve(binary: &Path, folder: &Path, settings: &[(String, String)]) -> Child {
    let log = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
    command(binary, folder, settings)
        .stdout(log("stdout"))
        .stderr(log("stderr"))
        .spawn()
        .unwrap()
}

/// Returns a command without the caller's environment, so that a developer's own settings don't matter.
fn command(binary: &Path, folder: &Path, settings: &[(String, String)]) -> Command {
    let mut command = Command::new(binary);
    command
        .current_dir(folder)
        .env_clear()
        .envs(settings.iter().cloned())
        .stdin(Stdio::null());
    command
}

fn output(command: &mut Command, stdin: &str) -> Output {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The command may end without reading its input.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn owned(environment: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let pairs = environment.iter();
    pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
