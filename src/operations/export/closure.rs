//! The subject's rows, every row that refers to them, every row that refers to those, and so on, each once.
//!
//! Found rows are numbered in the order they were found. Each reference remembers up to which number of its parent it has been
//! followed; when all are at the end, so is the search. Cycles and self-references end, because a row is found only once.
//!
//! Values are compared by `SQLite`, the parent's column first, so that its collation decides, as foreign keys have it.

use rusqlite::Connection;

use super::references::Reference;
use super::rows::RowSet;
use super::schema::Schema;
use super::words::quoted;

/// Up to so many rows of the parent are looked up one by one, even if the whole table has to be read for each.
const FEW: usize = 3;

/// The rows of an export, by table, and how many each reference led to.
pub(super) struct Found {
    pub(super) rows: Vec<RowSet>,
    pub(super) by_reference: Vec<u64>,
}

/// Follows `references` from what is in `rows`. `still_allowed` is asked at every row.
pub(super) fn follow<E: From<rusqlite::Error>>(
    connection: &Connection,
    schema: &Schema,
    references: &[Reference],
    mut rows: Vec<RowSet>,
    still_allowed: &dyn Fn() -> Result<(), E>,
) -> Result<Found, E> {
    let mut done = vec![0; references.len()];
    let mut by_reference = vec![0; references.len()];
    loop {
        let mut at_end = true;
        for (number, reference) in references.iter().enumerate() {
            let known = rows[reference.parent].len();
            if done[number] == known {
                continue;
            }
            at_end = false;
            let (child, parent) = (&schema.tables[reference.child], &schema.tables[reference.parent]);
            let one_by_one = child.finds_by(&reference.relation.columns)
                || known - done[number] <= FEW
                || !parent.finds_by(&reference.relation.parent_columns);
            let search = Search { connection, schema, reference, still_allowed };
            by_reference[number] += if one_by_one {
                search.look_up(&mut rows, done[number], known)?
            } else {
                search.scan(&mut rows)?
            };
            done[number] = known;
        }
        if at_end {
            return Ok(Found { rows, by_reference });
        }
    }
}

struct Search<'a, E> {
    connection: &'a Connection,
    schema: &'a Schema,
    reference: &'a Reference,
    still_allowed: &'a dyn Fn() -> Result<(), E>,
}

impl<E: From<rusqlite::Error>> Search<'_, E> {
    /// For each row of the parent from number `from` on, the rows that refer to it.
    fn look_up(&self, rows: &mut [RowSet], from: usize, to: usize) -> Result<u64, E> {
        let (child, parent) =
            (&self.schema.tables[self.reference.child], &self.schema.tables[self.reference.parent]);
        let sql = format!(
            "SELECT {} FROM {} AS p CROSS JOIN {} AS c WHERE {} AND {}",
            child.key.expressions("c").join(", "),
            quoted(&parent.name),
            quoted(&child.name),
            parent.key.condition("p", 1),
            self.equal_values(),
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut new = 0;
        for position in from..to {
            (self.still_allowed)()?;
            rows[self.reference.parent].bind(position, &mut statement)?;
            let mut found = statement.raw_query();
            while let Some(row) = found.next()? {
                (self.still_allowed)()?;
                new += u64::from(rows[self.reference.child].insert(row, 0)?);
            }
        }
        Ok(new)
    }

    /// Reads the child once, and for each row asks whether what it refers to was found.
    fn scan(&self, rows: &mut [RowSet]) -> Result<u64, E> {
        let (child, parent) =
            (&self.schema.tables[self.reference.child], &self.schema.tables[self.reference.parent]);
        let sql = format!(
            "SELECT {}, {} FROM {} AS c CROSS JOIN {} AS p WHERE {}",
            child.key.expressions("c").join(", "),
            parent.key.expressions("p").join(", "),
            quoted(&child.name),
            quoted(&parent.name),
            self.equal_values(),
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut pairs = statement.query(())?;
        let mut new = 0;
        let width = rows[self.reference.child].width();
        while let Some(row) = pairs.next()? {
            (self.still_allowed)()?;
            if rows[self.reference.parent].contains(row, width)? {
                new += u64::from(rows[self.reference.child].insert(row, 0)?);
            }
        }
        Ok(new)
    }

    fn equal_values(&self) -> String {
        let relation = &self.reference.relation;
        let pairs = relation.parent_columns.iter().zip(&relation.columns);
        let equal =
            pairs.map(|(of_parent, of_child)| format!("p.{} = c.{}", quoted(of_parent), quoted(of_child)));
        equal.collect::<Vec<_>>().join(" AND ")
    }
}
