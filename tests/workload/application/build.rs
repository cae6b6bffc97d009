//! The application's first years, in one go.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::Connection;

use super::random::Random;
use super::text::Text;
use super::{ACCOUNTS, CASE_STATES, INSERT_DOCUMENT, OPENING_BALANCE, SCHEMA, audit, connect, stamp};

/// Journal mode of a new database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    Wal,
    Delete,
}

impl FromStr for Journal {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "wal" => Ok(Self::Wal),
            "delete" => Ok(Self::Delete),
            _ => Err("must be wal or delete".to_owned()),
        }
    }
}

/// What to build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuildOptions {
    /// Least size of the file, in millions of bytes.
    pub(crate) megabytes: i64,
    pub(crate) journal: Journal,
    /// Bytes per page.
    pub(crate) page_size: i64,
    pub(crate) seed: u64,
}

/// Makes the database at `path`, in place of whatever was there.
pub(crate) fn build(path: &Path, options: &BuildOptions) -> Result<(), Box<dyn std::error::Error>> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let database = connect(path)?;
    database.pragma_update(None, "page_size", options.page_size)?;
    if options.journal == Journal::Wal {
        database.pragma_update(None, "journal_mode", "wal")?;
    }
    database.pragma_update(None, "synchronous", "off")?;
    database.execute_batch(SCHEMA)?;
    let mut builder =
        Builder { database, random: Random::new(options.seed), text: Text::new(), users: 0, cases: 0 };
    builder.in_transaction(Builder::open_accounts)?;
    let wanted = options.megabytes.saturating_mul(1_000_000);
    while builder.size()? < wanted {
        builder.in_transaction(|builder| (0..100).try_for_each(|_| builder.add_user()))?;
    }
    if options.journal == Journal::Wal {
        builder.database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    }
    builder.database.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

struct Builder {
    database: Connection,
    random: Random,
    text: Text,
    users: i64,
    cases: i64,
}

impl Builder {
    fn in_transaction(
        &mut self,
        add: impl FnOnce(&mut Self) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        self.database.execute_batch("BEGIN")?;
        add(self)?;
        self.database.execute_batch("COMMIT")
    }

    /// Bytes of the database.
    fn size(&self) -> rusqlite::Result<i64> {
        self.database.query_row(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            (),
            |row| row.get(0),
        )
    }

    fn open_accounts(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.database.prepare_cached("INSERT INTO ledger VALUES(?, ?, ?)")?;
        for account in 1..=ACCOUNTS {
            insert.execute((account, OPENING_BALANCE, self.text.draw(&mut self.random, 20, 200)))?;
        }
        self.database.execute("INSERT INTO ledger_meta VALUES(0)", ()).map(|_| ())
    }

    fn add_user(&mut self) -> rusqlite::Result<()> {
        self.users += 1;
        let random = &mut self.random;
        let email = format!("user{}.{}@example.org", self.users, random.below(1_000_000));
        let name = self.text.draw(random, 8, 24);
        let password_hash = random.bytes(60);
        let (created_at, last_login) = (stamp(random, 2025), stamp(random, 2026));
        let prefs = r#"{"theme":"dark","lang":"en","tz":"UTC"}"#;
        self.database.prepare_cached("INSERT INTO users VALUES(?, ?, ?, ?, ?, ?, ?)")?.execute((
            self.users,
            email,
            name,
            password_hash,
            created_at,
            last_login,
            prefs,
        ))?;
        for _ in 0..self.random.between(0, 6) {
            self.add_case()?;
        }
        for _ in 0..self.random.between(3, 30) {
            audit(&self.database, &mut self.random, &self.text, self.users, self.cases.max(1))?;
        }
        Ok(())
    }

    fn add_case(&mut self) -> rusqlite::Result<()> {
        self.cases += 1;
        let random = &mut self.random;
        let title = self.text.draw(random, 20, 60);
        let status = random.choose(&CASE_STATES);
        let description = self.text.draw(random, 200, 1500);
        let updated_at = stamp(random, 2026);
        self.database.prepare_cached("INSERT INTO cases VALUES(?, ?, ?, ?, ?, ?)")?.execute((
            self.cases,
            self.users,
            title,
            status,
            description,
            updated_at,
        ))?;
        for _ in 0..self.random.between(0, 3) {
            self.add_document()?;
        }
        for _ in 0..self.random.between(0, 4) {
            self.add_evidence()?;
        }
        Ok(())
    }

    /// About one in seven is incompressible, as a photograph or an encrypted attachment would be.
    fn add_document(&mut self) -> rusqlite::Result<()> {
        let random = &mut self.random;
        let body = if random.unit() < 0.15 {
            let length = 1000 + random.index(11_001);
            random.bytes(length)
        } else {
            self.text.draw(random, 500, 8000).as_bytes().to_vec()
        };
        let (name, digest) = (self.text.draw(random, 10, 30), random.bytes(32));
        self.database.prepare_cached(INSERT_DOCUMENT)?.execute((
            self.cases,
            name,
            "text/plain",
            body,
            digest,
        ))?;
        Ok(())
    }

    fn add_evidence(&mut self) -> rusqlite::Result<()> {
        let random = &mut self.random;
        let kind = random.choose(&["email", "photo", "witness"]);
        let (note, weight) = (self.text.draw(random, 50, 400), random.unit());
        self.database
            .prepare_cached("INSERT INTO evidence(case_id, kind, note, weight) VALUES(?, ?, ?, ?)")?
            .execute((self.cases, kind, note, weight))?;
        Ok(())
    }
}
