//! The statements. Names in them are checked and quoted identifiers; values are bound.

use crate::database::{
    name::{ColumnNames, Identifier, ViewName},
    schema::owners_procedure,
};

/// Exclusive lock of the view, beyond transactions, or no lock at once: 0 granted, 1 held by another, 4 held already.
pub(super) const LOCK: &str =
    "BEGIN :1 := DBMS_LOCK.REQUEST(id => :2, lockmode => 6, timeout => 0, release_on_commit => FALSE); END;";

/// Gives the lock back.
pub(super) const UNLOCK: &str = "BEGIN :1 := DBMS_LOCK.RELEASE(id => :2); END;";

/// Complete and atomic: deletes and inserts in one transaction, so that readers keep the old rows. It commits.
pub(super) const REFRESH: &str = "BEGIN DBMS_MVIEW.REFRESH(list => :1, method => 'C', atomic_refresh => TRUE); END;";

/// Every statement after it sees one snapshot.
pub(super) const READ_ONLY: &str = "SET TRANSACTION READ ONLY";

/// The statements about one view.
#[derive(Clone, Debug)]
pub(super) struct Statements {
    owner: Option<String>,
    name: String,
    columns: Vec<String>,
}

impl Statements {
    pub(super) fn new(view: &ViewName, columns: &ColumnNames) -> Self {
        Self {
            owner: view.schema().map(Identifier::in_upper_case),
            name: view.name().in_upper_case(),
            columns: columns.iter().map(Identifier::in_upper_case).collect(),
        }
    }

    /// When the view was last refreshed, which is local time of the database's host, and that host's clock with its offset.
    pub(super) fn stamp(&self) -> String {
        format!(
            "SELECT last_refresh_date, SYSTIMESTAMP FROM all_mviews WHERE {}",
            self.is_ours("mview_name")
        )
    }

    /// Names of the view's columns.
    pub(super) fn columns(&self) -> String {
        format!(
            "SELECT column_name FROM all_tab_columns WHERE {}",
            self.is_ours("table_name")
        )
    }

    /// Number of rows.
    pub(super) fn count(&self) -> String {
        format!("SELECT COUNT(*) FROM {}", self.relation())
    }

    /// Every row, ordered, so that equal generations have equal documents and the first of two equal ids is always the same one.
    pub(super) fn rows(&self) -> String {
        let cells: Vec<_> = self.columns.iter().map(|column| format!("v.\"{column}\"")).collect();
        // The id, the number, the start: what tells two rows apart.
        let order: Vec<_> = [0, 1, 6]
            .iter()
            .filter_map(|at| cells.get(*at))
            .map(String::as_str)
            .collect();
        format!(
            "SELECT {} FROM {} v ORDER BY {}",
            cells.join(", "),
            self.relation(),
            order.join(", ")
        )
    }

    /// What [`stamp`](Self::stamp) and [`columns`](Self::columns) bind.
    pub(super) fn binds(&self) -> Vec<&str> {
        self.owner
            .iter()
            .map(String::as_str)
            .chain([self.name.as_str()])
            .collect()
    }

    /// The view's name, as `DBMS_MVIEW` takes it.
    pub(super) fn list(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{owner}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Calls the procedure by which the view's owner lets others refresh it.
    pub(super) fn owners_refresh(&self) -> Option<String> {
        let owner = self.owner.as_deref()?;
        Some(format!("BEGIN \"{owner}\".\"{}\"; END;", owners_procedure(&self.name)))
    }

    /// Which of the columns are not among `present`.
    pub(super) fn missing(&self, present: &[String]) -> Vec<&str> {
        self.columns
            .iter()
            .filter(|column| !present.contains(column))
            .map(String::as_str)
            .collect()
    }

    /// Number of the view's lock: 30 bits of its name's hash (FNV-1a), what `DBMS_LOCK` leaves to its users.
    pub(super) fn lock(&self) -> i64 {
        let hash = self.list().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        i64::try_from(hash & 0x3fff_ffff).unwrap_or(0)
    }

    fn is_ours(&self, column: &str) -> String {
        match self.owner {
            Some(_) => format!("owner = :1 AND {column} = :2"),
            None => format!("owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') AND {column} = :1"),
        }
    }

    fn relation(&self) -> String {
        match &self.owner {
            Some(owner) => format!("\"{owner}\".\"{}\"", self.name),
            None => format!("\"{}\"", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(view: &str) -> Statements {
        Statements::new(&ViewName::parse(view).unwrap(), &ColumnNames::parse("id=num").unwrap())
    }

    #[test]
    fn names_are_folded_and_quoted_as_oracle_folds_them() {
        let radar = statements("radar.mv_portal");
        assert!(
            radar.rows().starts_with("SELECT v.\"NUM\", v.\"NUMERO_OCORRENCIA\","),
            "{}",
            radar.rows()
        );
        assert!(radar.rows().ends_with(
            "FROM \"RADAR\".\"MV_PORTAL\" v ORDER BY v.\"NUM\", v.\"NUMERO_OCORRENCIA\", v.\"DATA_INICIO\""
        ));
        assert_eq!(
            (radar.list().as_str(), radar.binds()),
            ("RADAR.MV_PORTAL", vec!["RADAR", "MV_PORTAL"])
        );
        let own = statements("mv_portal");
        assert!(own.stamp().contains("CURRENT_SCHEMA"));
        assert_eq!((own.list().as_str(), own.binds()), ("MV_PORTAL", vec!["MV_PORTAL"]));
        assert_ne!(radar.lock(), own.lock());
        assert!((0..1 << 30).contains(&radar.lock()));
    }
}
