use std::error::Error;
use std::fmt;

/// The error of a function that writes outputs.
pub type WriteError = Box<dyn Error + Send + Sync>;

/// The reason why a call of a [`PostgresTransaction`](crate::PostgresTransaction) failed.
///
/// The transaction remains usable after each error except [`Fenced`](Self::Fenced): the next call connects again.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostgresError {
    /// Another owner has claimed the job since, or the job's row was deleted, so this owner must stop. It can never commit
    /// again.
    Fenced {
        /// The job.
        job: String,
    },
    /// A commit came before the claim.
    NotClaimed,
    /// The call was made outside of a tokio runtime.
    NoRuntime,
    /// The server returned an error, or the connection to it failed; the [`source`](Error::source).
    Database(tokio_postgres::Error),
    /// The function that writes the outputs failed; the [`source`](Error::source). Nothing of this commit has taken place.
    Write(WriteError),
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { job } => {
                write!(f, "the job {job:?} has a newer owner, or was deleted: stop this one")
            }
            Self::NotClaimed => f.write_str("the job was not claimed"),
            Self::NoRuntime => f.write_str("there is no tokio runtime"),
            Self::Database(_) => f.write_str("the database of the job returned an error"),
            Self::Write(_) => f.write_str("the outputs could not be written"),
        }
    }
}

impl Error for PostgresError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Database(source) => Some(source),
            Self::Write(source) => Some(&**source),
            Self::Fenced { .. } | Self::NotClaimed | Self::NoRuntime => None,
        }
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}
