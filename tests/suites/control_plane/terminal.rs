//! `kubectl mapa` on a terminal, which only a terminal can prove: util-linux' `script` makes one, without a screen.

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use mapa_refresh_tests::wait::{self, Look};

use crate::{
    plugin::{command, mapa, published},
    world::{ON_SCHEDULE_ALONE, Tenant, Test, World},
};

pub const TESTS: &[Test] = &[
    (
        "terminal::plugin_status_is_coloured_on_a_terminal_alone_and_not_under_no_color",
        colours,
    ),
    (
        "terminal::plugin_status_watch_redraws_in_place_and_ctrl_c_ends_it_with_the_exit_code_of_what_it_shows",
        redraws,
    ),
    (
        "terminal::plugin_status_watch_redraws_in_place_without_colours_too",
        redraws_without_colours,
    ),
];

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
/// Everything is cleared once; each drawing begins at the top, clears each line to its end, and what is below.
const CLEARED: &str = "\u{1b}[2J";
const DRAWN: &str = "\u{1b}[H";
const TO_THE_END_OF_THE_LINE: &str = "\u{1b}[K";
const BELOW: &str = "\u{1b}[J";
/// What Ctrl-C sends to a terminal.
const CTRL_C: &[u8] = b"\x03";

/// The plugin on a terminal of its own. It ends when it is dropped.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: PathBuf,
}

impl Terminal {
    /// The plugin in the tenant's namespace, as the admin, with `environment` beside that of a terminal with colours.
    fn start(world: &World, tenant: &Tenant, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let all: Vec<&str> = arguments.iter().copied().chain(["-n", &tenant.namespace]).collect();
        let plugin = command(world.plane().kubeconfig(), &all);
        // Without `exec` the shell would get the Ctrl-C too, and end with a code of its own.
        let line = std::iter::once(plugin.get_program())
            .chain(plugin.get_args())
            .map(|word| format!(" '{}'", word.to_str().unwrap()))
            .collect::<String>();
        let screen = world
            .plane()
            .folder()
            .join(format!("{}-{name}.screen", tenant.namespace));
        let mut script = Command::new("setpriv");
        script
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "script",
                "--quiet",
                "--return",
                "--command",
            ])
            .arg(format!("exec{line}"))
            .arg("/dev/null")
            .env("KUBECONFIG", world.plane().kubeconfig())
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm");
        for other in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            script.env_remove(other);
        }
        script.envs(environment.iter().copied());
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(File::create(&screen).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take().unwrap();
        Self {
            child,
            keyboard,
            screen,
        }
    }

    /// Everything that was sent to the screen.
    fn shown(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.screen).unwrap()).into_owned()
    }

    fn wait_for(&self, what: &str, is_shown: impl Fn(&str) -> bool) -> String {
        wait::until(what, Duration::from_secs(30), || {
            let shown = self.shown();
            Look::when(is_shown(&shown), shown)
        })
        .unwrap()
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits for the end: the exit code, and everything that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        let child = &mut self.child;
        let status = wait::until("the plugin to end", Duration::from_secs(30), || {
            match child.try_wait().unwrap() {
                Some(status) => Look::Met(status),
                None => Look::Saw("it runs".to_owned()),
            }
        })
        .unwrap();
        (status.code(), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn colours(world: &World) {
    let tenant = world.tenant("terminal-colours");
    published(&tenant);
    let status = |name: &str, environment: &[(&str, &str)]| {
        Terminal::start(world, &tenant, name, &["status"], environment).end()
    };
    let (code, shown) = status("well", &[]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains(&format!("{GREEN}True")), "{shown:?}");

    tenant.apply("acre", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("acre", "Compliant", "False", "NeverPublished");
    let (code, shown) = status("not-well", &[]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains(&format!("{RED}False")) && shown.contains(&format!("{GREEN}True")),
        "{shown:?}"
    );

    let (code, shown) = status("no-color", &[("NO_COLOR", "1")]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    // A terminal ends lines with a return; nothing else may differ but what time has changed.
    let words = |text: &str| -> Vec<String> {
        let of_a_line = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        text.lines().map(of_a_line).collect()
    };
    let piped = mapa(world, &tenant, &["status"]);
    assert!(!piped.stdout.contains('\u{1b}'), "{piped:?}");
    assert_eq!(words(&shown)[0], words(&piped.stdout)[0], "{shown:?} {piped:?}");
    assert_eq!(
        (piped.code, words(&piped.stdout).len()),
        (1, words(&shown).len()),
        "{piped:?}"
    );
}

fn redraws(world: &World) {
    let tenant = world.tenant("terminal-watch");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Compliant", "False", "NeverPublished");
    let watch = |name: &str| Terminal::start(world, &tenant, name, &["status", "--watch"], &[]);
    // What the last complete drawing shows.
    let last = |shown: &str| {
        let drawn = shown.rsplit_once(BELOW).map(|(before, _)| before).unwrap_or_default();
        drawn
            .rsplit_once(DRAWN)
            .map(|(_, last)| last.to_owned())
            .unwrap_or_default()
    };

    let mut terminal = watch("not-well");
    let shown = terminal.wait_for("two drawings", |shown| {
        shown.matches(BELOW).count() >= 2 && last(shown).contains("NeverPublished")
    });
    assert!(shown.starts_with(CLEARED), "{shown:?}");
    assert_eq!(shown.matches(CLEARED).count(), 1, "it would flicker: {shown:?}");
    let drawing = last(&shown);
    assert!(
        drawing.contains("Ctrl-C ends") && drawing.contains(&format!("{RED}False")),
        "{drawing:?}"
    );
    assert!(
        drawing
            .lines()
            .all(|line| line.trim_end_matches('\r').ends_with(TO_THE_END_OF_THE_LINE) || line.is_empty()),
        "something of the last drawing could stay: {drawing:?}"
    );
    terminal.press(CTRL_C);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(1), "{shown:?}");

    let mut terminal = watch("well");
    terminal.wait_for("a drawing", |shown| last(shown).contains("NeverPublished"));
    crate::pods::run_all(&tenant, "1");
    let shown = terminal.wait_for("the change to be drawn", |shown| {
        last(shown).contains(&format!("{GREEN}True"))
    });
    assert_eq!(shown.matches(CLEARED).count(), 1, "{shown:?}");
    assert_eq!(
        last(&shown).matches("roraima").count(),
        1,
        "drawn over, not below: {shown:?}"
    );
    terminal.press(CTRL_C);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown:?}");
}

fn redraws_without_colours(world: &World) {
    let tenant = world.tenant("terminal-plain");
    tenant.apply("roraima", ON_SCHEDULE_ALONE);
    tenant.wait_for_condition("roraima", "Compliant", "False", "NeverPublished");
    let environment = [("NO_COLOR", "1")];
    let mut terminal = Terminal::start(world, &tenant, "plain", &["status", "--watch"], &environment);
    let shown = terminal.wait_for("three drawings", |shown| shown.matches("Ctrl-C ends").count() >= 3);
    assert!(
        shown.starts_with(CLEARED) && shown.matches(DRAWN).count() >= 3,
        "{shown:?}"
    );
    assert!(!shown.contains(RED), "{shown:?}");
    terminal.press(CTRL_C);
    assert_eq!(terminal.end().0, Some(1));
}
