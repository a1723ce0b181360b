//! The functions of the Oracle Call Interface that ODPI-C looks up by name, for one standalone session.
//!
//! Signatures and attribute numbers are those of ODPI-C's `dpiOci.c` and `dpiImpl.h` (5.4). ODPI-C loads each when it first needs it.

#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    missing_docs,
    unreachable_pub,
    reason = "names and contracts are those of the Oracle Call Interface"
)]

use std::{
    cell::RefCell,
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    ptr, slice,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use super::{
    handles::{
        Buffer, Described, Handle, Moment, SQLT_AFC, SQLT_CHR, SQLT_INT, SQLT_ODT, SQLT_TIMESTAMP, SQLT_TIMESTAMP_TZ,
        SQLT_VNU, Service, Session, Statement,
    },
    link::Link,
};
use crate::{
    number,
    protocol::{Ora, Request, Response},
    tokens::{binds, tokens},
    value::Value,
};
use chrono::{Datelike, Timelike};

const SUCCESS: c_int = 0;
const SUCCESS_WITH_INFO: c_int = 1;
const NO_DATA: c_int = 100;
const ERROR: c_int = -1;
const AL32UTF8: u16 = 873;

const HTYPE_ERROR: u32 = 2;
const HTYPE_SVCCTX: u32 = 3;
const HTYPE_SERVER: u32 = 8;
const HTYPE_SESSION: u32 = 9;

/// Not Oracle's library, but as much of version 19.3 as is needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIClientVersion(
    major: *mut c_int,
    minor: *mut c_int,
    update: *mut c_int,
    patch: *mut c_int,
    port: *mut c_int,
) {
    for (target, number) in [(major, 19), (minor, 3), (update, 0), (patch, 0), (port, 0)] {
        unsafe { target.write(number) };
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIThreadProcessInit() {}

thread_local! {
    static KEYS: RefCell<HashMap<usize, usize>> = RefCell::default();
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIThreadKeyInit(
    _: *mut c_void,
    _: *mut c_void,
    key: *mut *mut c_void,
    _: *mut c_void,
) -> c_int {
    unsafe { key.write(allocate(Handle::Other)) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIThreadKeyGet(
    _: *mut c_void,
    _: *mut c_void,
    key: *mut c_void,
    value: *mut *mut c_void,
) -> c_int {
    // While the process ends, thread-locals may be gone already.
    let found = KEYS
        .try_with(|keys| keys.borrow().get(&(key as usize)).copied())
        .ok()
        .flatten();
    unsafe { value.write(found.unwrap_or(0) as *mut c_void) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIThreadKeySet(
    _: *mut c_void,
    _: *mut c_void,
    key: *mut c_void,
    value: *mut c_void,
) -> c_int {
    let _ = KEYS.try_with(|keys| keys.borrow_mut().insert(key as usize, value as usize));
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIThreadKeyDestroy(_: *mut c_void, _: *mut c_void, _: *mut *mut c_void) -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIEnvNlsCreate(
    environment: *mut *mut c_void,
    _mode: u32,
    _context: *mut c_void,
    _malloc: *mut c_void,
    _realloc: *mut c_void,
    _free: *mut c_void,
    _extra: usize,
    _memory: *mut *mut c_void,
    _charset: u16,
    _ncharset: u16,
) -> c_int {
    unsafe { environment.write(allocate(Handle::Environment)) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIHandleAlloc(
    _: *const c_void,
    handle: *mut *mut c_void,
    kind: u32,
    _: usize,
    _: *mut *mut c_void,
) -> c_int {
    let fresh = match kind {
        HTYPE_ERROR => Handle::Error(Ora::new(0, "")),
        HTYPE_SVCCTX => Handle::Service(Service::default()),
        HTYPE_SERVER => Handle::Server(None),
        HTYPE_SESSION => Handle::Session(Session::default()),
        _ => Handle::Other,
    };
    unsafe { handle.write(allocate(fresh)) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIHandleFree(handle: *mut c_void, _: u32) -> c_int {
    free(handle);
    SUCCESS
}

static MOMENTS: LazyLock<Mutex<HashMap<usize, usize>>> = LazyLock::new(Mutex::default);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIArrayDescriptorAlloc(
    _: *const c_void,
    descriptors: *mut *mut c_void,
    _: u32,
    count: u32,
    _: usize,
    _: *mut *mut c_void,
) -> c_int {
    let moments = Box::leak(vec![Moment::default(); count as usize].into_boxed_slice());
    MOMENTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(moments.as_ptr() as usize, moments.len());
    for (at, moment) in moments.iter_mut().enumerate() {
        unsafe { descriptors.add(at).write(ptr::from_mut(moment).cast()) };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIArrayDescriptorFree(descriptors: *mut *mut c_void, _: u32) -> c_int {
    let first = unsafe { descriptors.read() };
    if let Some(count) = MOMENTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&(first as usize))
    {
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first.cast::<Moment>(), count)) });
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIDescriptorAlloc(
    _: *const c_void,
    descriptor: *mut *mut c_void,
    _: u32,
    _: usize,
    _: *mut *mut c_void,
) -> c_int {
    unsafe { descriptor.write(allocate(Handle::Other)) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIDescriptorFree(descriptor: *mut c_void, _: u32) -> c_int {
    free(descriptor);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCINlsCharSetIdToName(_: *mut c_void, buffer: *mut c_char, size: usize, _: u16) -> c_int {
    write_text(buffer, size, "AL32UTF8");
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCINlsNameMap(
    _: *mut c_void,
    buffer: *mut c_char,
    size: usize,
    _: *const c_char,
    _: u32,
) -> c_int {
    write_text(buffer, size, "UTF-8");
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCINlsNumericInfoGet(_: *mut c_void, _: *mut c_void, value: *mut i32, _: u16) -> c_int {
    // Bytes of the longest character.
    unsafe { value.write(4) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIErrorGet(
    handle: *mut c_void,
    _: u32,
    _: *mut c_char,
    code: *mut i32,
    buffer: *mut c_char,
    size: u32,
    _: u32,
) -> c_int {
    let Some(Handle::Error(ora)) = handle_at(handle) else {
        return ERROR;
    };
    unsafe { code.write(ora.code) };
    write_text(buffer, size as usize, &format!("{}\n", ora.message));
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIAttrGet(
    handle: *const c_void,
    _: u32,
    target: *mut c_void,
    size: *mut u32,
    attribute: u32,
    _: *mut c_void,
) -> c_int {
    match (handle_at(handle.cast_mut()), attribute) {
        // OCI_ATTR_CHARSET_ID, OCI_ATTR_NCHARSET_ID
        (Some(Handle::Environment | Handle::Server(_)), 31 | 262) => put(target, AL32UTF8),
        // OCI_ATTR_SERVER_STATUS
        (Some(Handle::Server(link)), 143) => put(target, u32::from(link.as_ref().is_some_and(|link| link.is_alive()))),
        // OCI_ATTR_SERVER, OCI_ATTR_SESSION
        (Some(Handle::Service(service)), 6) => put(target, service.server),
        (Some(Handle::Service(service)), 7) => put(target, service.session),
        // OCI_ATTR_STMTCACHESIZE, OCI_ATTR_CALL_TIMEOUT
        (Some(Handle::Service(service)), 176) => put(target, service.statement_cache),
        (Some(Handle::Service(service)), 531) => put(target, service.call_timeout_ms),
        // OCI_ATTR_TRANSACTION_IN_PROGRESS
        (Some(Handle::Session(_)), 484) => put(target, 0_i32),
        // OCI_ATTR_ERROR_IS_RECOVERABLE
        (Some(Handle::Error(_)), 472) => put(target, 0_i32),
        (Some(Handle::Statement(statement)), attribute) => statement_attribute(statement, attribute, target, size),
        (Some(Handle::Parameter(described)), attribute) => {
            column_attribute(unsafe { &**described }, attribute, target, size)
        }
        _ => ERROR,
    }
}

fn statement_attribute(statement: &Statement, attribute: u32, target: *mut c_void, size: *mut u32) -> c_int {
    match attribute {
        // OCI_ATTR_STMT_TYPE, OCI_ATTR_STMT_IS_RETURNING
        24 => put(target, statement.kind),
        218 => put(target, 0_u8),
        // OCI_ATTR_PARAM_COUNT, OCI_ATTR_BIND_COUNT, OCI_ATTR_ROWS_FETCHED
        18 => put(target, count(statement.columns.len())),
        190 => put(target, count(statement.bind_names.len())),
        197 => put(target, statement.fetched),
        // OCI_ATTR_UB8_ROW_COUNT, OCI_ATTR_PARSE_ERROR_OFFSET
        457 => put(target, 0_u64),
        129 => put(target, 0_u16),
        // OCI_ATTR_STATEMENT
        144 => {
            put(target, statement.sql.as_ptr());
            unsafe { size.write(count(statement.sql.len())) };
            SUCCESS
        }
        _ => ERROR,
    }
}

fn column_attribute(described: &Described, attribute: u32, target: *mut c_void, size: *mut u32) -> c_int {
    let (kind, bytes, characters, precision, scale) = described.shape();
    match attribute {
        // OCI_ATTR_DATA_SIZE, OCI_ATTR_DATA_TYPE, OCI_ATTR_PRECISION, OCI_ATTR_SCALE, OCI_ATTR_IS_NULL
        1 => put(target, bytes),
        2 => put(target, kind),
        5 => put(target, precision),
        6 => put(target, scale),
        7 => put(target, 1_u8),
        // OCI_ATTR_NAME
        4 => {
            put(target, described.column.name.as_ptr());
            unsafe { size.write(count(described.column.name.len())) };
            SUCCESS
        }
        // OCI_ATTR_CHARSET_FORM (SQLCS_IMPLICIT), OCI_ATTR_CHAR_SIZE, OCI_ATTR_JSON_COL
        32 => put(target, 1_u8),
        286 => put(target, characters),
        534 => put(target, 0_u8),
        _ => ERROR,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIAttrSet(
    handle: *mut c_void,
    _: u32,
    value: *mut c_void,
    size: u32,
    attribute: u32,
    _: *mut c_void,
) -> c_int {
    match (handle_at(handle), attribute) {
        (Some(Handle::Service(service)), 6) => service.server = value,
        (Some(Handle::Service(service)), 7) => service.session = value,
        (Some(Handle::Service(service)), 176) => service.statement_cache = unsafe { value.cast::<u32>().read() },
        (Some(Handle::Service(service)), 531) => service.call_timeout_ms = unsafe { value.cast::<u32>().read() },
        // OCI_ATTR_USERNAME, OCI_ATTR_PASSWORD
        (Some(Handle::Session(session)), 22) => session.user = Some(text(value.cast(), size as usize)),
        (Some(Handle::Session(session)), 23) => session.password = Some(text(value.cast(), size as usize)),
        // The name of the driver, the number of rows to fetch ahead, sizes: nothing depends on them here.
        _ => {}
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIServerAttach(
    server: *mut c_void,
    error: *mut c_void,
    connect_string: *const c_char,
    length: i32,
    _: u32,
) -> c_int {
    let connect_string = text(connect_string.cast(), usize::try_from(length).unwrap_or(0));
    match Link::attach(&connect_string) {
        Ok(link) => {
            if let Some(Handle::Server(own)) = handle_at(server) {
                *own = Some(Arc::new(link));
            }
            SUCCESS
        }
        Err(ora) => fail(error, ora),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIServerDetach(server: *mut c_void, _: *mut c_void, _: u32) -> c_int {
    if let Some(Handle::Server(own)) = handle_at(server) {
        *own = None;
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCISessionBegin(
    service: *mut c_void,
    error: *mut c_void,
    session: *mut c_void,
    _: u32,
    _: u32,
) -> c_int {
    let request = match handle_at(session) {
        Some(Handle::Session(session)) => Request::Begin {
            user: session.user.clone(),
            password: session.password.clone(),
        },
        _ => return ERROR,
    };
    match call(service, &request) {
        Ok(Response::Begun {
            break_fault,
            warning,
            hangs_at_exit,
        }) => {
            if hangs_at_exit {
                unsafe { atexit(hang) };
            }
            if let Some(Handle::Service(service)) = handle_at(service) {
                service.break_fault = break_fault;
            }
            match warning {
                None => SUCCESS,
                Some(ora) => {
                    fail(error, ora);
                    SUCCESS_WITH_INFO
                }
            }
        }
        Ok(_) => fail(error, confused()),
        Err(ora) => fail(error, ora),
    }
}

unsafe extern "C" {
    fn atexit(handler: extern "C" fn()) -> c_int;
}

/// An exit handler that waits for what never comes.
extern "C" fn hang() {
    loop {
        std::thread::park();
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCISessionEnd(service: *mut c_void, error: *mut c_void, _: *mut c_void, _: u32) -> c_int {
    done(error, call(service, &Request::End))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIServerRelease2(
    _: *mut c_void,
    _: *mut c_void,
    buffer: *mut c_char,
    size: u32,
    _: u8,
    version: *mut u32,
    _: u32,
) -> c_int {
    if !buffer.is_null() {
        write_text(buffer, size as usize, "OCI stub, not Oracle");
    }
    unsafe { version.write(19 << 24) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIStmtPrepare2(
    service: *mut c_void,
    statement: *mut *mut c_void,
    error: *mut c_void,
    sql: *const c_char,
    length: u32,
    _: *const c_char,
    _: u32,
    _: u32,
    _: u32,
) -> c_int {
    let sql = text(sql.cast(), length as usize);
    let Ok(tokens) = tokens(&sql) else {
        return fail(error, Ora::new(1756, "quoted string not properly terminated"));
    };
    let bind_names = binds(&tokens);
    // As in OCI_STMT_…; others are of no type.
    let kind = match sql
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase()
        .as_str()
    {
        "SELECT" => 1,
        "UPDATE" => 2,
        "DELETE" => 3,
        "INSERT" => 4,
        "BEGIN" => 8,
        "DECLARE" => 9,
        _ => 0,
    };
    let fresh = Statement {
        service,
        sql,
        kind,
        binds: vec![None; bind_names.len()],
        bind_names,
        columns: Vec::new(),
        defines: Vec::new(),
        cursor: None,
        fetched: 0,
    };
    unsafe { statement.write(allocate(Handle::Statement(Box::new(fresh)))) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIStmtGetBindInfo(
    statement: *mut c_void,
    _: *mut c_void,
    size: u32,
    start: u32,
    found: *mut i32,
    names: *mut *mut c_char,
    lengths: *mut u8,
    _: *mut *mut c_char,
    _: *mut u8,
    duplicates: *mut u8,
    _: *mut *mut c_void,
) -> c_int {
    let Some(Handle::Statement(statement)) = handle_at(statement) else {
        return ERROR;
    };
    let start = start.saturating_sub(1) as usize;
    let rest = statement.bind_names.get(start..).unwrap_or_default();
    if rest.is_empty() {
        return NO_DATA;
    }
    for (at, name) in rest.iter().take(size as usize).enumerate() {
        unsafe {
            names.add(at).write(name.as_ptr().cast_mut().cast());
            lengths.add(at).write(u8::try_from(name.len()).unwrap_or(u8::MAX));
            duplicates.add(at).write(0);
        }
    }
    let total = i32::try_from(statement.bind_names.len()).unwrap_or(i32::MAX);
    // Negative: there are more than were asked for.
    unsafe { found.write(if rest.len() > size as usize { -total } else { total }) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIBindByPos2(
    statement: *mut c_void,
    bind: *mut *mut c_void,
    error: *mut c_void,
    position: u32,
    value: *mut c_void,
    size: i64,
    kind: u16,
    indicator: *mut c_void,
    length: *mut u32,
    code: *mut u16,
    _: u32,
    _: *mut u32,
    _: u32,
) -> c_int {
    let Some(Handle::Statement(statement)) = handle_at(statement) else {
        return ERROR;
    };
    let buffer = Buffer {
        value,
        size: usize::try_from(size).unwrap_or(0),
        kind,
        indicator: indicator.cast(),
        length,
        code,
    };
    let unknown = Ora::new(1036, "illegal variable name/number");
    place(&mut statement.binds, position, buffer, bind, error, unknown)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIDefineByPos2(
    statement: *mut c_void,
    define: *mut *mut c_void,
    error: *mut c_void,
    position: u32,
    value: *mut c_void,
    size: u64,
    kind: u16,
    indicator: *mut c_void,
    length: *mut u32,
    code: *mut u16,
    _: u32,
) -> c_int {
    let Some(Handle::Statement(statement)) = handle_at(statement) else {
        return ERROR;
    };
    let buffer = Buffer {
        value,
        size: usize::try_from(size).unwrap_or(0),
        kind,
        indicator: indicator.cast(),
        length,
        code,
    };
    let unknown = Ora::new(1007, "variable not in select list");
    place(&mut statement.defines, position, buffer, define, error, unknown)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIParamGet(
    statement: *const c_void,
    _: u32,
    error: *mut c_void,
    parameter: *mut *mut c_void,
    position: u32,
) -> c_int {
    let Some(Handle::Statement(statement)) = handle_at(statement.cast_mut()) else {
        return ERROR;
    };
    match statement.columns.get((position as usize).wrapping_sub(1)) {
        Some(described) => {
            unsafe { parameter.write(allocate(Handle::Parameter(described))) };
            SUCCESS
        }
        None => fail(error, Ora::new(24334, "no descriptor for this position")),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIStmtExecute(
    service: *mut c_void,
    statement: *mut c_void,
    error: *mut c_void,
    _: u32,
    _: u32,
    _: *const c_void,
    _: *mut c_void,
    _: u32,
) -> c_int {
    let Some(Handle::Statement(statement)) = handle_at(statement) else {
        return ERROR;
    };
    if statement.binds.iter().any(Option::is_none) {
        return fail(error, Ora::new(1008, "not all variables bound"));
    }
    let binds = statement.binds.iter().flatten().map(read_bind).collect();
    let request = Request::Execute {
        sql: statement.sql.clone(),
        binds,
    };
    match call(service, &request) {
        Ok(Response::Opened { cursor, columns }) => {
            statement.cursor = Some(cursor);
            statement.defines = vec![None; columns.len()];
            statement.columns = columns.into_iter().map(|column| Described { column }).collect();
            SUCCESS
        }
        Ok(Response::Ran { binds }) => {
            for (buffer, value) in statement.binds.iter().flatten().zip(&binds) {
                write_value(buffer, 0, value);
            }
            SUCCESS
        }
        Ok(_) => fail(error, confused()),
        Err(ora) => fail(error, ora),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIStmtFetch2(
    statement: *mut c_void,
    error: *mut c_void,
    rows: u32,
    _: u16,
    _: i32,
    _: u32,
) -> c_int {
    let Some(Handle::Statement(statement)) = handle_at(statement) else {
        return ERROR;
    };
    statement.fetched = 0;
    let Some(cursor) = statement.cursor else {
        return fail(error, Ora::new(1002, "fetch out of sequence"));
    };
    match call(statement.service, &Request::Fetch { cursor, rows }) {
        Ok(Response::Rows { rows: batch }) => {
            for (at, row) in batch.iter().enumerate() {
                for (define, value) in statement.defines.iter().zip(row) {
                    if let Some(define) = define {
                        write_value(define, at, value);
                    }
                }
            }
            statement.fetched = count(batch.len());
            if statement.fetched < rows { NO_DATA } else { SUCCESS }
        }
        Ok(_) => fail(error, confused()),
        Err(ora) => fail(error, ora),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIStmtRelease(
    statement: *mut c_void,
    _: *mut c_void,
    _: *const c_char,
    _: u32,
    _: u32,
) -> c_int {
    if let Some(Handle::Statement(own)) = handle_at(statement)
        && let Some(cursor) = own.cursor
    {
        let _ = call(own.service, &Request::Close { cursor });
    }
    free(statement);
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCITransCommit(service: *mut c_void, error: *mut c_void, _: u32) -> c_int {
    done(error, call(service, &Request::Commit))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCITransRollback(service: *mut c_void, error: *mut c_void, _: u32) -> c_int {
    done(error, call(service, &Request::Rollback))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIPing(service: *mut c_void, error: *mut c_void, _: u32) -> c_int {
    done(error, call(service, &Request::Ping))
}

/// Comes from another thread than the one that is waiting in a call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIBreak(service: *mut c_void, error: *mut c_void) -> c_int {
    let Some(Handle::Service(own)) = handle_at(service) else {
        return ERROR;
    };
    if let Some(ora) = own.break_fault.clone() {
        return fail(error, ora);
    }
    match link_of(service).map(|link| link.write(&Request::Break)) {
        Some(Ok(())) => SUCCESS,
        Some(Err(ora)) => fail(error, ora),
        None => fail(error, Ora::new(3114, "not connected to ORACLE")),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIDateTimeGetDate(
    _: *mut c_void,
    _: *mut c_void,
    moment: *const c_void,
    year: *mut i16,
    month: *mut u8,
    day: *mut u8,
) -> c_int {
    let local = unsafe { (*moment.cast::<Moment>()).local };
    unsafe {
        year.write(i16::try_from(local.year()).unwrap_or(0));
        month.write(small(local.month()));
        day.write(small(local.day()));
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIDateTimeGetTime(
    _: *mut c_void,
    _: *mut c_void,
    moment: *mut c_void,
    hour: *mut u8,
    minute: *mut u8,
    second: *mut u8,
    nanosecond: *mut u32,
) -> c_int {
    let local = unsafe { (*moment.cast::<Moment>()).local };
    unsafe {
        hour.write(small(local.hour()));
        minute.write(small(local.minute()));
        second.write(small(local.second()));
        nanosecond.write(local.nanosecond());
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn OCIDateTimeGetTimeZoneOffset(
    _: *mut c_void,
    _: *mut c_void,
    moment: *const c_void,
    hours: *mut i8,
    minutes: *mut i8,
) -> c_int {
    let east = unsafe { (*moment.cast::<Moment>()).east_minutes };
    unsafe {
        hours.write(i8::try_from(east / 60).unwrap_or(0));
        minutes.write(i8::try_from(east % 60).unwrap_or(0));
    }
    SUCCESS
}

fn allocate(handle: Handle) -> *mut c_void {
    Box::into_raw(Box::new(handle)).cast()
}

fn free(handle: *mut c_void) {
    if !handle.is_null() {
        drop(unsafe { Box::from_raw(handle.cast::<Handle>()) });
    }
}

fn handle_at<'a>(handle: *mut c_void) -> Option<&'a mut Handle> {
    unsafe { handle.cast::<Handle>().as_mut() }
}

fn link_of(service: *mut c_void) -> Option<Arc<Link>> {
    let Some(Handle::Service(service)) = handle_at(service) else {
        return None;
    };
    match handle_at(service.server) {
        Some(Handle::Server(link)) => link.clone(),
        _ => None,
    }
}

fn call(service: *mut c_void, request: &Request) -> Result<Response, Ora> {
    let link = link_of(service).ok_or_else(|| Ora::new(3114, "not connected to ORACLE"))?;
    let timeout = match handle_at(service) {
        Some(Handle::Service(service)) => service.timeout(),
        _ => None,
    };
    link.call(request, timeout)
}

fn done(error: *mut c_void, result: Result<Response, Ora>) -> c_int {
    match result {
        Ok(_) => SUCCESS,
        Err(ora) => fail(error, ora),
    }
}

fn fail(error: *mut c_void, ora: Ora) -> c_int {
    if let Some(Handle::Error(own)) = handle_at(error) {
        *own = ora;
    }
    ERROR
}

/// Remembers where the value at `position` (from 1) is to be put or found, and gives ODPI-C a handle for that.
fn place(
    buffers: &mut [Option<Buffer>],
    position: u32,
    buffer: Buffer,
    handle: *mut *mut c_void,
    error: *mut c_void,
    unknown: Ora,
) -> c_int {
    match buffers.get_mut((position as usize).wrapping_sub(1)) {
        Some(slot) => *slot = Some(buffer),
        None => return fail(error, unknown),
    }
    unsafe { handle.write(allocate(Handle::Other)) };
    SUCCESS
}

fn confused() -> Ora {
    Ora::new(600, "the halves of the OCI stub do not understand each other")
}

fn put<T>(target: *mut c_void, value: T) -> c_int {
    unsafe { target.cast::<T>().write_unaligned(value) };
    SUCCESS
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn small(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(0)
}

fn text(bytes: *const u8, length: usize) -> String {
    if bytes.is_null() {
        return String::new();
    }
    String::from_utf8_lossy(unsafe { slice::from_raw_parts(bytes, length) }).into_owned()
}

/// Writes `text` and a NUL, cut to `size`.
fn write_text(buffer: *mut c_char, size: usize, text: &str) {
    let length = text.len().min(size.saturating_sub(1));
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), length);
        buffer.add(length).write(0);
    }
    debug_assert!(unsafe { CStr::from_ptr(buffer) }.count_bytes() <= size);
}

fn read_bind(buffer: &Buffer) -> Value {
    if !buffer.indicator.is_null() && unsafe { buffer.indicator.read() } == -1 {
        return Value::Null;
    }
    match buffer.kind {
        SQLT_VNU => Value::Number(number::decode(unsafe { &*buffer.value.cast::<[u8; number::SIZE]>() })),
        SQLT_INT => Value::int(unsafe { buffer.value.cast::<i64>().read_unaligned() }),
        _ => {
            let length = if buffer.length.is_null() {
                buffer.size
            } else {
                unsafe { buffer.length.read() as usize }
            };
            Value::Text(unsafe { slice::from_raw_parts(buffer.value.cast::<u8>(), length) }.to_vec())
        }
    }
}

/// Puts `value` into element `at` of the array.
fn write_value(buffer: &Buffer, at: usize, value: &Value) {
    let element = unsafe { buffer.value.cast::<u8>().add(at * buffer.size) };
    let indicate = |indicator: i16| {
        if !buffer.indicator.is_null() {
            unsafe { buffer.indicator.add(at).write(indicator) };
        }
    };
    indicate(0);
    let mut code = 0;
    match (buffer.kind, value) {
        (SQLT_CHR | SQLT_AFC, Value::Text(bytes)) => {
            let length = bytes.len().min(buffer.size);
            // ORA-01406: fetched column value was truncated.
            code = if length < bytes.len() { 1406 } else { 0 };
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), element, length) };
            if !buffer.length.is_null() {
                unsafe { buffer.length.add(at).write(count(length)) };
            }
        }
        (SQLT_VNU, Value::Number(decimal)) => {
            let bytes = number::encode(decimal);
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), element, bytes.len()) };
        }
        (SQLT_INT, Value::Number(decimal)) => unsafe {
            element.cast::<i64>().write_unaligned(decimal.parse().unwrap_or(0))
        },
        (SQLT_ODT, Value::Local(local)) => {
            let mut bytes = [0; 7];
            bytes[..2].copy_from_slice(&i16::try_from(local.year()).unwrap_or(0).to_ne_bytes());
            bytes[2..].copy_from_slice(
                &[local.month(), local.day(), local.hour(), local.minute(), local.second()].map(small),
            );
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), element, bytes.len()) };
        }
        (SQLT_TIMESTAMP | SQLT_TIMESTAMP_TZ, Value::Local(_) | Value::Zoned(..)) => {
            let moment = match value {
                Value::Zoned(local, east_minutes) => Moment {
                    local: *local,
                    east_minutes: *east_minutes,
                },
                Value::Local(local) => Moment {
                    local: *local,
                    east_minutes: 0,
                },
                _ => Moment::default(),
            };
            unsafe { (*element.cast::<*mut Moment>()).write(moment) };
        }
        _ => indicate(-1),
    }
    if !buffer.code.is_null() {
        unsafe { buffer.code.add(at).write(code) };
    }
}
