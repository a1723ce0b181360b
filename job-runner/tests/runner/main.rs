//! The job-runner as a process, against a real PostgreSQL and a real Redis that the tests start themselves.

mod faults;
mod health_check;
mod publish;
mod refresh;
mod secrets;
mod servers;
mod world;
