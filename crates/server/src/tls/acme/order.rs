//! One order, from its names to its certificate (RFC 8555 section 7.4).

use std::time::Duration;

use fanfare_store::AcmeChallenge;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier,
    NewOrder, Order, OrderStatus, RetryPolicy,
};

use super::account::in_words;

/// How long the server may take to look at the names, and then to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// What became of an order.
pub(super) enum Ordered {
    /// The present certificate is good until then, Unix time in milliseconds.
    NotYet { due_at: i64 },
    /// The certificate and its issuers', and its key, as PEM.
    Issued { chain: String, key: String },
}

/// Orders a certificate. Returns the order, and the challenges that nodes must answer before it goes on. Errors are in
/// words, here and below.
pub(super) async fn begin(
    account: &Account,
    names: &[String],
    profile: &str,
    replaced: Option<CertificateIdentifier<'static>>,
    kind: &ChallengeType,
) -> Result<(Order, Vec<AcmeChallenge>), String> {
    let names: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    let mut new = NewOrder::new(&names);
    if !profile.is_empty() {
        new = new.profile(profile);
    }
    if let Some(replaced) = replaced {
        new = new.replaces(replaced);
    }
    let begun = account.new_order(&new).await;
    let mut order = begun.map_err(|error| in_words("the order was refused", &error))?;
    let asked = challenges(&mut order, kind).await?;
    Ok((order, asked))
}

/// Has the server look at the names, and issue the certificate.
pub(super) async fn complete(order: &mut Order, kind: &ChallengeType) -> Result<Ordered, String> {
    answer(order, kind).await?;
    finish(order).await
}

/// Returns the challenges of the names that the account isn't authorized for yet.
async fn challenges(order: &mut Order, kind: &ChallengeType) -> Result<Vec<AcmeChallenge>, String> {
    let mut asked = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let failed = |error| in_words("the order's names cannot be read", &error);
        let mut authorization = authorization.map_err(failed)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => {
                return Err(format!(
                    "{}: the server says {status:?}",
                    authorization.identifier()
                ));
            }
        }
        let name = authorization.identifier().to_string();
        let Some(challenge) = authorization.challenge(kind.clone()) else {
            return Err(format!(
                "the server offers no challenge {} for {name} (tls.acme.challenge)",
                self::name(kind)
            ));
        };
        asked.push(AcmeChallenge {
            token: challenge.token.clone(),
            key_authorization: challenge.key_authorization().as_str().to_owned(),
            name,
        });
    }
    Ok(asked)
}

/// Asks the server to look at the names.
async fn answer(order: &mut Order, kind: &ChallengeType) -> Result<(), String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let failed = |error| in_words("the challenges cannot be answered", &error);
        let mut authorization = authorization.map_err(failed)?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        if let Some(mut challenge) = authorization.challenge(kind.clone()) {
            challenge.set_ready().await.map_err(failed)?;
        }
    }
    Ok(())
}

async fn finish(order: &mut Order) -> Result<Ordered, String> {
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        Ok(_) => return Err(refusal(order, "it does not say why").await),
        Err(Error::Api(problem)) => return Err(refusal(order, &problem.to_string()).await),
        Err(error) => return Err(in_words("the server did not look at the names", &error)),
    }
    let failed = |error| in_words("no certificate was issued", &error);
    let key = order.finalize().await.map_err(failed)?;
    let chain = order.poll_certificate(&PATIENCE).await.map_err(failed)?;
    Ok(Ordered::Issued { chain, key })
}

/// Returns why the server doesn't accept the names: what it says of each, or `otherwise`.
async fn refusal(order: &mut Order, otherwise: &str) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let errors = state.challenges.iter().filter_map(|one| one.error.as_ref());
        reasons.extend(errors.map(|error| format!("{name}: {error}")));
    }
    if reasons.is_empty() {
        reasons.push(otherwise.to_owned());
    }
    format!(
        "the server did not accept the names: {}",
        reasons.join("; ")
    )
}

/// Returns the name of a challenge, as RFC 8555 has it.
pub(super) fn name(kind: &ChallengeType) -> &str {
    match kind {
        ChallengeType::Http01 => "http-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        ChallengeType::Dns01 => "dns-01",
        ChallengeType::Unknown(name) => name,
        _ => "unknown",
    }
}
