//! `fanfare operator`.

use clap::{Args, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::api::{Api, Call, standard_input};
use super::failure::{Code, Failure};
use super::{Creation, Listing, output};
use crate::admin::operators::Operator;
use crate::admin::page::Page;
use crate::admin::sessions::browser::SignInLink;
use crate::first_owner::draw_password;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an operator; without --password-stdin a password is drawn, and printed once
    Create(Create),
    /// List all operators
    List(Listing),
    /// Show one operator
    Show {
        /// Their name or id
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change an operator's name, rights or whether they may sign in; counts at once
    Update(Update),
    /// Delete an operator: they are signed out, and the tokens they made are revoked
    Delete {
        /// Their name or id
        name: String,
    },
    /// Set an operator's password and end their sessions; without --password-stdin one is drawn, and printed once
    SetPassword {
        /// Their name or id
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a link that signs an operator in to the dashboard, once and within the hour
    SignInLink {
        /// Their name or id
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Draw a new password for an operator, print it once, and end their sessions
    ResetPassword {
        /// Their name or id
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// The rights of an operator or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Reads metrics and nothing else; for tokens
    Metrics,
    /// Looks
    Viewer,
    /// Changes apps and keys
    Admin,
    /// Changes operators as well
    Owner,
}

impl RoleName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What they sign in with, for example an e-mail address
    name: String,
    /// What they may do
    #[arg(long)]
    role: RoleName,
    /// Id of an app that they see, several times for several [default: all apps]
    #[arg(long = "app", value_name = "ID")]
    apps: Vec<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    creation: Creation,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Their name or id
    name: String,
    /// What they are to sign in with
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// What they may do
    #[arg(long)]
    role: Option<RoleName>,
    /// Id of an app that they see, several times for several
    #[arg(long = "app", value_name = "ID")]
    apps: Vec<String>,
    /// They see all apps
    #[arg(long, conflicts_with = "apps")]
    all_apps: bool,
    /// They may sign in
    #[arg(long)]
    enable: bool,
    /// They may not sign in any more: they are signed out, and the tokens they made are revoked
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, api: &Api) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => run_create(create, api).await,
        Command::List(listing) => list(&listing, api).await,
        Command::Show { name, json } => {
            let operator = find(&name, api).await?;
            let answer = api.send(Call::get(&["operators", &operator.id])).await?;
            show(answer, json)
        }
        Command::Update(update) => run_update(update, api).await,
        Command::Delete { name } => {
            let operator = find(&name, api).await?;
            api.send(Call::delete(&["operators", &operator.id])).await?;
            output::text(&format!("deleted {}", operator.name))
        }
        Command::SetPassword {
            name,
            password_stdin,
            json,
        } => set_password(&name, Password::given(password_stdin)?, json, api).await,
        Command::SignInLink { name, json } => sign_in_link(&name, json, api).await,
        Command::ResetPassword { name, json } => {
            set_password(&name, Password::draw(), json, api).await
        }
    }
}

/// A new password, and whether it was generated, so that it must be printed.
struct Password {
    text: SecretString,
    drawn: bool,
}

impl Password {
    fn draw() -> Self {
        Self {
            text: draw_password(),
            drawn: true,
        }
    }

    /// Reads a password from standard input, without its final line break, or generates one.
    fn given(stdin: bool) -> anyhow::Result<Self> {
        if !stdin {
            return Ok(Self::draw());
        }
        let text = standard_input()?;
        let line = text.expose_secret();
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        Ok(Self {
            text: line.into(),
            drawn: false,
        })
    }

    /// Returns the password if it is to be printed, which a typed one isn't.
    fn shown(&self) -> Option<&str> {
        self.drawn.then(|| self.text.expose_secret())
    }
}

async fn run_create(create: Create, api: &Api) -> anyhow::Result<()> {
    let password = Password::given(create.password_stdin)?;
    let body = json!({
        "name": create.name,
        "role": create.role.as_str(),
        "apps": some(create.apps),
        "password": password.text.expose_secret(),
    });
    let call =
        Call::post(&["operators"], body).with_idempotency_key(create.creation.idempotency_key);
    let mut answer = api.send(call).await?;
    if create.creation.json {
        if let Some(password) = password.shown() {
            answer["password"] = password.into();
        }
        return output::json(&answer);
    }
    let operator: Operator = serde_json::from_value(answer)?;
    let drawn = password.shown().map(|text| ("password", text.to_owned()));
    output::fields(&[fields(&operator), drawn.into_iter().collect()].concat())
}

async fn run_update(update: Update, api: &Api) -> anyhow::Result<()> {
    let mut patch = Map::new();
    if let Some(name) = update.new_name {
        patch.insert("name".into(), name.into());
    }
    if let Some(role) = update.role {
        patch.insert("role".into(), role.as_str().into());
    }
    if update.all_apps || !update.apps.is_empty() {
        patch.insert("apps".into(), json!(some(update.apps)));
    }
    if update.enable || update.disable {
        patch.insert("enabled".into(), update.enable.into());
    }
    let operator = find(&update.name, api).await?;
    let call = Call::patch(&["operators", &operator.id], patch.into());
    show(api.send(call).await?, update.json)
}

async fn set_password(name: &str, password: Password, json: bool, api: &Api) -> anyhow::Result<()> {
    let operator = find(name, api).await?;
    let body = json!({"password": password.text.expose_secret()});
    api.send(Call::put(&["operators", &operator.id, "password"], body))
        .await?;
    let drawn = password.shown();
    if json {
        let mut done = json!({"id": operator.id, "name": operator.name});
        if let Some(password) = drawn {
            done["password"] = password.into();
        }
        return output::json(&done);
    }
    match drawn {
        Some(password) => output::fields(&[
            ("operator", operator.name),
            ("password", password.to_owned()),
        ]),
        None => output::text(&format!("set the password of {}", operator.name)),
    }
}

async fn sign_in_link(name: &str, json: bool, api: &Api) -> anyhow::Result<()> {
    let operator = find(name, api).await?;
    let call = Call::post(&["operators", &operator.id, "sign-in-links"], json!({}));
    let mut answer = api.send(call).await?;
    let link: SignInLink = serde_json::from_value(answer.clone())?;
    let url = format!("{}{}", api.dashboard(), link.path);
    if json {
        answer["url"] = url.into();
        return output::json(&answer);
    }
    output::fields(&[
        ("operator", operator.name),
        ("link", url),
        ("good until", output::time(link.expires_at)),
    ])
}

async fn list(listing: &Listing, api: &Api) -> anyhow::Result<()> {
    let call = || Call::get(&["operators"]);
    let answer = api.list(call, listing.limit()).await?;
    let headings = ["ID", "NAME", "ROLE", "APPS", "ENABLED"];
    output::list(answer, listing.json, &headings, |operator: Operator| {
        let apps = output::apps(operator.apps.as_deref());
        let enabled = output::yes(operator.enabled);
        vec![
            operator.id,
            operator.name,
            operator.role.to_string(),
            apps,
            enabled,
        ]
    })
}

fn show(answer: Value, json: bool) -> anyhow::Result<()> {
    output::answer(answer, json, |operator: Operator| {
        output::fields(&fields(&operator))
    })
}

fn fields(operator: &Operator) -> Vec<(&'static str, String)> {
    vec![
        ("id", operator.id.clone()),
        ("name", operator.name.clone()),
        ("role", operator.role.to_string()),
        ("apps", output::apps(operator.apps.as_deref())),
        ("enabled", output::yes(operator.enabled)),
    ]
}

/// Returns apps as the API takes them, where null means all apps.
pub(crate) fn some(apps: Vec<String>) -> Option<Vec<String>> {
    Some(apps).filter(|apps| !apps.is_empty())
}

/// Returns the operator with this id, or else with this name.
pub(crate) async fn find(name: &str, api: &Api) -> anyhow::Result<Operator> {
    let operators = api.list(|| Call::get(&["operators"]), None).await?;
    let operators: Page<Operator> = serde_json::from_value(operators)?;
    let mut operators = operators.items;
    let position = operators
        .iter()
        .position(|operator| operator.id == name)
        .or_else(|| operators.iter().position(|operator| operator.name == name));
    let none = || Failure::new(Code::NotFound, format!("there is no operator {name:?}"));
    Ok(operators.swap_remove(position.ok_or_else(none)?))
}
