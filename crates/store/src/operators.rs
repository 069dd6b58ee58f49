//! Operators: the people who administer the installation.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sqlx::Row;

use crate::actor::Actor;
use crate::audit::{Target, difference};
use crate::database::{Store, issue_id};
use crate::dialect::{execute, fetch_optional, on_db};
use crate::error::StoreError;
use crate::row::{from_row, parsed};
use crate::scope::{Role, apps_from_column, apps_to_column, check_apps, check_name};
use crate::transaction::Transaction;

const INSERT: &str = "INSERT INTO operators (id, name, folded_name, role, apps, enabled, password_hash, \
                                             created_at, updated_at, revision) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)";
const SELECT: &str = "SELECT id, name, role, apps, enabled, created_at, updated_at, revision \
                      FROM operators WHERE id = $1";
const SELECT_BY_NAME: &str = "SELECT id, name, role, apps, enabled, created_at, updated_at, revision, password_hash \
                              FROM operators WHERE folded_name = $1";
const SELECT_PAGE: &str = "SELECT id, name, role, apps, enabled, created_at, updated_at, revision \
                           FROM operators WHERE (created_at, id) > ($1, $2) \
                           ORDER BY created_at, id LIMIT $3";
const UPDATE: &str = "UPDATE operators SET name = $2, folded_name = $3, role = $4, apps = $5, enabled = $6, \
                                           updated_at = $7, revision = $8 WHERE id = $1";
const SET_PASSWORD: &str =
    "UPDATE operators SET password_hash = $2, updated_at = $3, revision = $4 WHERE id = $1";
const DELETE: &str = "DELETE FROM operators WHERE id = $1";
const COUNT: &str = "SELECT COUNT(*) FROM operators";
/// Counts the other owners who can administer everything, of whom one must be left.
const COUNT_OTHER_OWNERS: &str = "SELECT COUNT(*) FROM operators \
                                  WHERE role = 'owner' AND enabled AND apps IS NULL AND id <> $1";

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRecord {
    /// Their id.
    pub id: String,
    /// Name to sign in with, for example an e-mail address. No two names differ only in case.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Ids of the apps that the role covers, or `None` for all apps.
    pub apps: Option<Vec<String>>,
    /// Whether they may sign in.
    pub enabled: bool,
    /// Unix time in milliseconds.
    pub created_at: i64,
    /// Unix time in milliseconds.
    pub updated_at: i64,
    /// Revision of the installation at the last change.
    pub revision: i64,
}

from_row!(row => OperatorRecord {
    id,
    name,
    role: parsed(row, "role", Role::try_from)?,
    apps: apps_from_column(row.try_get("apps")?),
    enabled,
    created_at,
    updated_at,
    revision,
});

/// An operator to create.
#[derive(Debug, Clone)]
pub struct NewOperator {
    /// Name to sign in with.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Ids of the apps that the role covers, or `None` for all apps.
    pub apps: Option<Vec<String>>,
    /// The hash of their password, a PHC string.
    pub password_hash: SecretString,
}

struct SignInRow {
    operator: OperatorRecord,
    password_hash: String,
}

from_row!(row => SignInRow {
    operator: OperatorRecord::from_row(row)?,
    password_hash,
});

impl OperatorRecord {
    fn is_full_owner(&self) -> bool {
        self.enabled && self.role == Role::Owner && self.apps.is_none()
    }
}

impl Store {
    /// Creates an operator.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Invalid`] for the name or an app id, or [`StoreError::Conflict`] if the name is taken.
    pub async fn create_operator(
        &self,
        new: &NewOperator,
        by: &Actor,
    ) -> Result<OperatorRecord, StoreError> {
        let transaction = self.begin(by).await?;
        transaction.create_operator(new).await
    }

    /// Creates the first operator, an owner of everything.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Conflict`] if there is an operator already, or [`StoreError::Invalid`] for the name.
    pub async fn create_first_owner(
        &self,
        name: &str,
        password_hash: &SecretString,
        by: &Actor,
    ) -> Result<OperatorRecord, StoreError> {
        let mut transaction = self.begin(by).await?;
        if transaction.count(COUNT, None).await? > 0 {
            return Err(StoreError::Conflict("there is an operator already".into()));
        }
        let owner = NewOperator {
            name: name.into(),
            role: Role::Owner,
            apps: None,
            password_hash: password_hash.clone(),
        };
        transaction.create_operator(&owner).await
    }

    /// Returns the number of operators, including disabled ones.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn count_operators(&self) -> Result<i64, StoreError> {
        Ok(on_db!(&self.db, pool => sqlx::query_scalar(COUNT).fetch_one(pool).await)?)
    }

    /// Returns an operator.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such operator.
    pub async fn operator(&self, id: &str) -> Result<OperatorRecord, StoreError> {
        self.find(SELECT, id).await?.ok_or_else(|| not_found(id))
    }

    /// Returns the operator with this name, in any case, and the hash of their password. The operator may be disabled.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn operator_for_sign_in(
        &self,
        name: &str,
    ) -> Result<Option<(OperatorRecord, SecretString)>, StoreError> {
        let found: Option<SignInRow> = on_db!(&self.db, pool => sqlx::query_as(SELECT_BY_NAME)
            .bind(fold(name.trim()))
            .fetch_optional(pool)
            .await)?;
        Ok(found.map(|row| (row.operator, row.password_hash.into())))
    }

    /// Returns at most `limit` operators, oldest first: those after the one with this `created_at` and id.
    ///
    /// # Errors
    ///
    /// Returns the database's error.
    pub async fn operators(
        &self,
        after: Option<(i64, String)>,
        limit: i64,
    ) -> Result<Vec<OperatorRecord>, StoreError> {
        self.page(SELECT_PAGE, after, limit).await
    }

    /// Changes an operator's name, role, apps and whether they may sign in, and returns the changed operator. Disabling
    /// an operator revokes their sessions and the tokens they made.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`], [`StoreError::Invalid`] for name or apps, [`StoreError::Conflict`] if the name
    /// is taken or no owner of everything would be left, or [`StoreError::Stale`] if the revision isn't the expected
    /// one.
    pub async fn update_operator(
        &self,
        operator: &OperatorRecord,
        expected_revision: Option<i64>,
        by: &Actor,
    ) -> Result<OperatorRecord, StoreError> {
        let mut transaction = self.begin(by).await?;
        let before = transaction.operator(&operator.id).await?;
        if expected_revision.is_some_and(|expected| expected != before.revision) {
            return Err(StoreError::Stale(format!(
                "the operator {:?} was changed in the meantime",
                before.name
            )));
        }
        let after = OperatorRecord {
            name: check_name(&operator.name, "an operator's")?,
            role: operator.role,
            apps: check_apps(operator.apps.as_deref())?,
            enabled: operator.enabled,
            updated_at: transaction.at,
            revision: transaction.revision,
            ..before.clone()
        };
        let changed = difference(&fields(&before), &fields(&after));
        if changed.is_empty() {
            return Ok(before);
        }
        // Counted under the installation's lock, so that two owners can't demote each other at once.
        if !after.is_full_owner() {
            transaction.keep_a_full_owner(&before).await?;
        }
        transaction.write_operator(&after).await?;
        if !after.enabled {
            transaction.revoke_all_of(&after.id).await?;
        }
        let target = Target::of("operator", &after.id);
        transaction
            .record("operator.update", target, &changed.into())
            .await?;
        transaction.commit().await?;
        Ok(after)
    }

    /// Sets an operator's password, and revokes all their sessions.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`] if there is no such operator.
    pub async fn set_password(
        &self,
        id: &str,
        password_hash: &SecretString,
        by: &Actor,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        let operator = transaction.operator(id).await?;
        execute!(
            &mut transaction.tx,
            SET_PASSWORD,
            id,
            password_hash.expose_secret(),
            transaction.at,
            transaction.revision,
        )?;
        let revoked = transaction.revoke_sessions_of(id).await?;
        let details = json!({"name": operator.name, "sessions_revoked": revoked});
        transaction
            .record("operator.password", Target::of("operator", id), &details)
            .await?;
        transaction.commit().await
    }

    /// Deletes an operator, and revokes their sessions and the tokens they made.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotFound`], or [`StoreError::Conflict`] if no owner of everything would be left.
    pub async fn delete_operator(&self, id: &str, by: &Actor) -> Result<(), StoreError> {
        let mut transaction = self.begin(by).await?;
        let operator = transaction.operator(id).await?;
        transaction.keep_a_full_owner(&operator).await?;
        execute!(&mut transaction.tx, DELETE, id)?;
        transaction.revoke_all_of(id).await?;
        let target = Target::of("operator", id);
        transaction
            .record("operator.delete", target, &fields(&operator))
            .await?;
        transaction.commit().await
    }
}

impl Transaction<'_> {
    pub(crate) async fn operator(&mut self, id: &str) -> Result<OperatorRecord, StoreError> {
        fetch_optional!(OperatorRecord, &mut self.tx, SELECT, id)?.ok_or_else(|| not_found(id))
    }

    /// Checks that an operator may still sign in, because they may have been disabled since the request began.
    pub(crate) async fn check_operator_enabled(&mut self, id: &str) -> Result<(), StoreError> {
        let operator = self.operator(id).await?;
        if operator.enabled {
            return Ok(());
        }
        Err(StoreError::Conflict(format!(
            "the operator {:?} is disabled",
            operator.name
        )))
    }

    async fn create_operator(mut self, new: &NewOperator) -> Result<OperatorRecord, StoreError> {
        let operator = OperatorRecord {
            id: issue_id("op"),
            name: check_name(&new.name, "an operator's")?,
            role: new.role,
            apps: check_apps(new.apps.as_deref())?,
            enabled: true,
            created_at: self.at,
            updated_at: self.at,
            revision: self.revision,
        };
        let inserted = execute!(
            &mut self.tx,
            INSERT,
            &operator.id,
            &operator.name,
            fold(&operator.name),
            operator.role.as_str(),
            apps_to_column(operator.apps.as_deref()),
            operator.enabled,
            new.password_hash.expose_secret(),
            operator.created_at,
            operator.revision,
        );
        inserted.map_err(|error| StoreError::or_conflict(error, || taken(&operator.name)))?;
        let target = Target::of("operator", &operator.id);
        self.record("operator.create", target, &fields(&operator))
            .await?;
        self.commit().await?;
        Ok(operator)
    }

    async fn write_operator(&mut self, operator: &OperatorRecord) -> Result<(), StoreError> {
        let updated = execute!(
            &mut self.tx,
            UPDATE,
            &operator.id,
            &operator.name,
            fold(&operator.name),
            operator.role.as_str(),
            apps_to_column(operator.apps.as_deref()),
            operator.enabled,
            operator.updated_at,
            operator.revision,
        );
        updated.map_err(|error| StoreError::or_conflict(error, || taken(&operator.name)))?;
        Ok(())
    }

    /// Checks that an owner of everything is left without `operator`.
    async fn keep_a_full_owner(&mut self, operator: &OperatorRecord) -> Result<(), StoreError> {
        if !operator.is_full_owner()
            || self.count(COUNT_OTHER_OWNERS, Some(&operator.id)).await? > 0
        {
            return Ok(());
        }
        Err(StoreError::Conflict(format!(
            "{:?} is the last enabled owner of all apps: make somebody else one first, or nobody could administer this \
             installation",
            operator.name
        )))
    }

    async fn revoke_all_of(&mut self, operator_id: &str) -> Result<(), StoreError> {
        self.revoke_sessions_of(operator_id).await?;
        self.revoke_tokens_of(operator_id).await
    }

    async fn count(&mut self, sql: &'static str, id: Option<&str>) -> Result<i64, StoreError> {
        let count = match id {
            Some(id) => fetch_optional!((i64,), &mut self.tx, sql, id),
            None => fetch_optional!((i64,), &mut self.tx, sql),
        };
        Ok(count?.map_or(0, |(count,)| count))
    }
}

fn not_found(id: &str) -> StoreError {
    StoreError::NotFound(format!("there is no operator with id {id:?}"))
}

fn taken(name: &str) -> String {
    format!("there is an operator {name:?} already")
}

fn fields(operator: &OperatorRecord) -> Value {
    json!({
        "name": operator.name,
        "role": operator.role,
        "apps": operator.apps,
        "enabled": operator.enabled,
    })
}

/// Returns a name as names are compared.
fn fold(name: &str) -> String {
    name.to_lowercase()
}
