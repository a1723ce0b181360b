//! From rows to documents: pure, without I/O and without a clock. The only moment that counts is the view's stamp.

pub mod area;
pub mod document;
pub mod faixa;
pub mod geojson;
pub mod id;
pub mod map_document;
mod names;
pub mod outage;
pub mod publishable;
pub mod row;
pub mod statistics;
pub mod status;
pub mod text;
pub mod time;

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod outage_tests;
