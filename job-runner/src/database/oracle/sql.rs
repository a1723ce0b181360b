//! The statements. Names in them are checked and quoted identifiers; values are bound.

use crate::database::{
    name::{ColumnNames, Identifier, ViewName, choose},
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
    /// As the policy writes them.
    view: ViewName,
    wanted: ColumnNames,
}

impl Statements {
    pub(super) fn new(view: &ViewName, columns: &ColumnNames) -> Self {
        Self {
            owner: view.schema().map(Identifier::in_upper_case),
            name: view.name().in_upper_case(),
            columns: columns.iter().map(Identifier::in_upper_case).collect(),
            view: view.clone(),
            wanted: columns.clone(),
        }
    }

    /// Owners and names of the views that differ from the policy's by case alone.
    pub(super) fn locate(&self) -> String {
        match self.owner {
            Some(_) => "SELECT owner, mview_name FROM all_mviews WHERE UPPER(owner) = :1 AND UPPER(mview_name) = :2".to_owned(),
            None => "SELECT owner, mview_name FROM all_mviews WHERE owner = SYS_CONTEXT('USERENV', 'CURRENT_SCHEMA') AND UPPER(mview_name) = :1"
                .to_owned(),
        }
    }

    /// What [`locate`](Self::locate) binds.
    pub(super) fn locate_binds(&self) -> Vec<String> {
        let schema = self.view.schema().map(|schema| schema.written().to_ascii_uppercase());
        schema
            .into_iter()
            .chain([self.view.name().written().to_ascii_uppercase()])
            .collect()
    }

    /// The same statements about that of the views `found` which the policy means; about the policy's own name, folded, when there is none.
    ///
    /// # Errors
    /// When there are several, and none is written as the policy writes it: their names.
    pub(super) fn about(self, found: &[(String, String)]) -> Result<Self, Vec<String>> {
        let is = |owner: Option<&str>, name: &str, view: &(String, String)| {
            view.1 == name && owner.is_none_or(|owner| view.0 == owner)
        };
        let written = self.view.schema().map(Identifier::written);
        let chosen = choose(
            found,
            |view| is(written, self.view.name().written(), view),
            |view| is(self.owner.as_deref(), &self.name, view),
        );
        match chosen {
            Ok(None) => Ok(self),
            Ok(Some((owner, name))) => Ok(Self {
                owner: self.owner.as_ref().map(|_| owner.clone()),
                name: name.clone(),
                ..self
            }),
            Err(several) => Err(several.iter().map(|(owner, name)| format!("{owner}.{name}")).collect()),
        }
    }

    /// The same statements with the columns as they are among `present`, and the names of those that are not there or of which there are
    /// several.
    pub(super) fn with_columns(self, present: &[String]) -> (Self, Vec<String>, Vec<String>) {
        let (mut absent, mut ambiguous) = (Vec::new(), Vec::new());
        let columns = self
            .wanted
            .iter()
            .map(|wanted| {
                let folded = wanted.in_upper_case();
                let alike: Vec<String> = present
                    .iter()
                    .filter(|column| column.eq_ignore_ascii_case(wanted.written()))
                    .cloned()
                    .collect();
                match choose(&alike, |column| column == wanted.written(), |column| *column == folded) {
                    Ok(Some(column)) => return column.clone(),
                    Ok(None) => absent.push(folded.clone()),
                    Err(several) => ambiguous.extend(several.iter().cloned()),
                }
                folded
            })
            .collect();
        (Self { columns, ..self }, absent, ambiguous)
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

    /// The view's name, as `DBMS_MVIEW` takes it: in quotes only what has lower-case letters.
    pub(super) fn list(&self) -> String {
        let part = |name: &str| match name == name.to_ascii_uppercase() {
            true => name.to_owned(),
            false => format!("\"{name}\""),
        };
        match &self.owner {
            Some(owner) => format!("{}.{}", part(owner), part(&self.name)),
            None => part(&self.name),
        }
    }

    /// Calls the procedure by which the view's owner lets others refresh it.
    pub(super) fn owners_refresh(&self) -> Option<String> {
        let owner = self.owner.as_deref()?;
        let procedure = owners_procedure(&self.name.to_ascii_uppercase());
        Some(format!("BEGIN \"{owner}\".\"{procedure}\"; END;"))
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
        assert_eq!(radar.locate_binds(), ["RADAR", "MV_PORTAL"]);
        assert_ne!(radar.lock(), own.lock());
        assert!((0..1 << 30).contains(&radar.lock()));
    }

    #[test]
    fn views_and_columns_are_found_whatever_their_case() {
        let found = |names: &[(&str, &str)]| -> Vec<(String, String)> {
            names
                .iter()
                .map(|(owner, name)| ((*owner).to_owned(), (*name).to_owned()))
                .collect()
        };
        let about = |view: &str, names: &[(&str, &str)]| statements(view).about(&found(names)).map(|s| s.list());
        assert_eq!(
            about("radar.mv", &[("RADAR", "MV"), ("RADAR", "Mv")]).unwrap(),
            "RADAR.MV"
        );
        assert_eq!(about("radar.mv", &[("RADAR", "Mv")]).unwrap(), "RADAR.\"Mv\"");
        assert_eq!(about("radar.mv", &[]).unwrap(), "RADAR.MV");
        assert_eq!(
            about("radar.mv", &[("RADAR", "Mv"), ("RADAR", "mV")]).unwrap_err(),
            ["RADAR.Mv", "RADAR.mV"]
        );
        let present = ["Num", "causa", "CAUSA", "Tipo", "TIPO_", "tIPO"].map(str::to_owned);
        let (with, absent, ambiguous) = statements("mv").with_columns(&present);
        assert!(
            with.rows().starts_with("SELECT v.\"Num\", v.\"NUMERO_OCORRENCIA\","),
            "{}",
            with.rows()
        );
        assert!(with.rows().contains("v.\"causa\""), "as it is written: {}", with.rows());
        assert_eq!(
            (absent.len(), ambiguous),
            (10, vec!["Tipo".to_owned(), "tIPO".to_owned()])
        );
    }
}
