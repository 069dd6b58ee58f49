//! What clients of Fanfare speak TLS to: Fanfare itself, or a proxy in front of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ClientConfig;

use crate::stream::{SERVER_NAME, client_config};

/// What ends TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// Fanfare itself.
    Fanfare,
    /// nginx, one process.
    Nginx,
    /// HAProxy, one process.
    Haproxy,
}

impl Front {
    /// Returns its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fanfare => "tls",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// Returns the proxy's program, if it is a proxy.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Self::Fanfare => None,
            Self::Nginx => Some("nginx"),
            Self::Haproxy => Some("haproxy"),
        }
    }

    /// Returns the command that runs the proxy, if it is one, from `listen` to `server`.
    pub(crate) fn command(
        self,
        dir: &Path,
        identity: &Identity,
        listen: SocketAddr,
        server: SocketAddr,
    ) -> Result<Option<Command>> {
        let Some(program) = self.program() else {
            return Ok(None);
        };
        let file = dir.join("proxy.conf");
        let mut command = Command::new(program);
        if self == Self::Nginx {
            fs::write(&file, nginx(dir, identity, listen, server))?;
            command.arg("-p").arg(dir).arg("-c").arg(&file);
            command.arg("-e").arg(dir.join("error.log"));
        } else {
            fs::write(&file, haproxy(identity, listen, server))?;
            command.args(["-db", "-f"]).arg(&file);
        }
        Ok(Some(command))
    }
}

/// A certificate and its key, as files.
pub(crate) struct Identity {
    /// The certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// The key, PEM.
    pub(crate) key: PathBuf,
    /// Both.
    both: PathBuf,
    /// How clients speak to its servers.
    pub(crate) client: Arc<ClientConfig>,
}

impl Identity {
    /// Writes a new certificate with an ECDSA key (P-256) into a folder. Clients resume their sessions if `resume`.
    pub(crate) fn create(dir: &Path, resume: bool) -> Result<Self> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
        Ok(Self {
            both: write("both.pem", &format!("{certificate}{key}"))?,
            certificate: write("certificate.pem", &certificate)?,
            key: write("key.pem", &key)?,
            client: client_config(cert.der().clone(), resume)?,
        })
    }
}

fn nginx(dir: &Path, identity: &Identity, listen: SocketAddr, server: SocketAddr) -> String {
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid;
         worker_rlimit_nofile 65536;
         events {{ worker_connections 30000; }}
         http {{
           access_log off; error_log {dir}/error.log;
           client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
           uwsgi_temp_path {dir}; scgi_temp_path {dir};
           upstream fanfare {{ server {server}; keepalive 64; }}
           map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
           keepalive_requests 1000000;
           server {{
             listen {listen} ssl backlog=4096;
             ssl_certificate {certificate}; ssl_certificate_key {key};
             ssl_session_cache shared:tls:10m;
             location / {{
               proxy_pass http://fanfare; proxy_http_version 1.1; proxy_buffering off;
               proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
               proxy_set_header Host $host; proxy_read_timeout 300s;
             }}
           }}
         }}",
        dir = dir.display(),
        certificate = identity.certificate.display(),
        key = identity.key.display(),
    )
}

fn haproxy(identity: &Identity, listen: SocketAddr, server: SocketAddr) -> String {
    format!(
        "global
           maxconn 9000
           ssl-default-bind-options ssl-min-ver TLSv1.2
         defaults
           mode http
           timeout connect 5s
           timeout client 60s
           timeout server 60s
           timeout tunnel 300s
           option http-no-delay
         frontend tls
           bind {listen} ssl crt {both} backlog 4096
           default_backend fanfare
         backend fanfare
           server one {server}\n",
        both = identity.both.display(),
    )
}
