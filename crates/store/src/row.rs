//! Reads rows of both databases into structs.
//!
//! Written by hand because sqlx's derive macros compile both drivers and their TLS a second time.

use sqlx::error::BoxDynError;
use sqlx::{ColumnIndex, Decode, Row, Type};

/// Implements [`sqlx::FromRow`] for a struct, on rows of both databases. A field reads the column of its name, unless
/// an expression over the row is given.
macro_rules! from_row {
    ($row:ident => $type:ident { $($fields:tt)* }) => {
        $crate::row::from_row!(@of sqlx::sqlite::SqliteRow, $row => $type { $($fields)* });
        $crate::row::from_row!(@of sqlx::postgres::PgRow, $row => $type { $($fields)* });
    };
    (@of $database_row:ty, $row:ident => $type:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {
        impl sqlx::FromRow<'_, $database_row> for $type {
            fn from_row($row: &$database_row) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: $crate::row::from_row!(@value $row, $field $(: $value)?)),* })
            }
        }
    };
    (@value $row:ident, $field:ident) => { sqlx::Row::try_get($row, stringify!($field))? };
    (@value $row:ident, $field:ident: $value:expr) => { $value };
}
pub(crate) use from_row;

/// Reads a column of text and parses it.
///
/// # Errors
///
/// Returns [`sqlx::Error::ColumnDecode`] if `parse` refuses the text.
pub(crate) fn parsed<'r, R, T, E>(
    row: &'r R,
    column: &'static str,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Result<T, sqlx::Error>
where
    R: Row,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    E: Into<BoxDynError>,
{
    parse(row.try_get(column)?).map_err(|error| sqlx::Error::ColumnDecode {
        index: column.into(),
        source: error.into(),
    })
}
