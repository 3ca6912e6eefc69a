//! The commands that a page tells its reader to type, as a script that types them.
//!
//! Blocks whose first word is `sh` are commands. What follows the word says what becomes of them:
//!
//! - nothing: they succeed.
//! - `eventually`: they do after a while, as what waits for a guest.
//! - `refused`: they fail, and print the lines of the `text` block that comes next. A UUID in what
//!   they print stands as `UUID` there.
//! - `elsewhere`: another test runs them, in a guest with an init system.
//!
//! The blocks of a page are typed into one shell, so that a variable set in one is known to the next.
//!
//! A block of another language whose second word has a dot in it is a file of that name, which is there
//! for the commands that follow.

use std::fmt::Write;

use crate::{Error, Result};

/// What becomes of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They succeed.
    Done,
    /// They succeed once enough time went by.
    Eventually,
    /// They fail with these lines, each a part of one that is printed.
    Refused(Vec<String>),
    /// They are for another place.
    Elsewhere,
    /// They are none, but what a file of this name holds.
    File(String),
}

/// Commands of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line that they begin at, from 1.
    pub line: usize,
    /// Themselves, a line each.
    pub commands: String,
    /// What becomes of them.
    pub outcome: Outcome,
}

/// The blocks of a page, in their order.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let mut content = String::new();
        loop {
            match lines.next() {
                Some((_, "```")) => break,
                Some((_, line)) => content += &format!("{line}\n"),
                None => return Err(malformed(at, "the block does not end")),
            }
        }
        let mut words = info.split_whitespace();
        match (words.next(), words.next()) {
            (Some("sh"), fate) => blocks.push(Block {
                line: at + 2,
                commands: content,
                outcome: outcome(fate).ok_or_else(|| malformed(at, "no such outcome"))?,
            }),
            (Some(_), Some(name)) if name.contains('.') => blocks.push(Block {
                line: at + 2,
                commands: content,
                outcome: Outcome::File(name.to_owned()),
            }),
            (Some("text"), _) => {
                if let Some(Outcome::Refused(expected)) =
                    blocks.last_mut().map(|it| &mut it.outcome)
                    && expected.is_empty()
                {
                    expected.extend(content.lines().map(str::to_owned));
                }
            }
            _ => {}
        }
    }
    let wordless = blocks
        .iter()
        .find(|block| block.outcome == Outcome::Refused(Vec::new()));
    match wordless {
        Some(block) => Err(malformed(block.line, "a refusal without words")),
        None => Ok(blocks),
    }
}

fn outcome(word: Option<&str>) -> Option<Outcome> {
    Some(match word {
        None => Outcome::Done,
        Some("eventually") => Outcome::Eventually,
        Some("refused") => Outcome::Refused(Vec::new()),
        Some("elsewhere") => Outcome::Elsewhere,
        Some(_) => return None,
    })
}

fn malformed(line: usize, words: &str) -> Error {
    Error::Malformed(format!("line {line}: {words}"))
}

/// What the script of a page begins with: how a block is run that may fail.
const SHELL: &str = r#"
set -eu
said=$(mktemp)
# A block in the middle of a condition would go on after what fails in it.
attempt() { set +e; (set -e; eval "$1") >"$said" 2>&1; status=$?; set -e; }
eventually() {
    for _ in $(seq 600); do
        attempt "$1"
        if [ $status = 0 ]; then cat "$said"; return; fi
        sleep 0.1
    done
    echo "it does not succeed: $(cat "$said")"; exit 1
}
refused() {
    attempt "$1"
    sed -E 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g' -i "$said"
    if [ $status = 0 ]; then echo "it is not refused"; exit 1; fi
    while read -r words; do
        grep -qF -- "$words" "$said" && continue
        printf 'it does not say: %s\nbut: %s\n' "$words" "$(cat "$said")"; exit 1
    done
}
"#;

/// The script that types the blocks of the page `name`, whose output tells how far it got.
pub fn script(name: &str, blocks: &[Block]) -> String {
    let mut script = SHELL.to_owned();
    for block in blocks {
        let Block { line, commands, .. } = block;
        // Writing to a String cannot fail.
        let _ = writeln!(script, "echo '--- {name}:{line}'");
        let quoted = format!("'{}'", commands.replace('\'', r"'\''"));
        let _ = match &block.outcome {
            Outcome::Done => writeln!(script, "{commands}"),
            Outcome::Eventually => writeln!(script, "eventually {quoted}"),
            Outcome::Refused(words) => {
                let words = words.join("\n");
                writeln!(script, "refused {quoted} <<'WORDS'\n{words}\nWORDS")
            }
            Outcome::Elsewhere => Ok(()),
            Outcome::File(name) => writeln!(script, "cat >{name} <<'THE-FILE'\n{commands}THE-FILE"),
        };
    }
    script + "echo '--- the end'\n"
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(page: &str) -> (bool, String) {
        let script = script("page", &blocks(page).unwrap());
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text)
    }

    #[test]
    fn blocks_share_a_shell_and_other_languages_are_not_run() {
        let page = "# A\n```sh\nA=1\n```\n```toml\nb = 1\n```\n```sh\necho \"a is $A\"\n```\n";
        let (is_done, text) = run(page);
        assert!(is_done);
        assert_eq!(text, "--- page:3\n--- page:9\na is 1\n--- the end\n");
    }

    #[test]
    fn a_page_ends_at_the_first_command_that_fails() {
        let (is_done, text) = run("```sh\nfalse\necho on\n```\n```sh\necho on\n```\n");
        assert!(!is_done);
        assert_eq!(text, "--- page:2\n");
    }

    #[test]
    fn a_refusal_says_its_words_and_nothing_but_a_refusal_will_do() {
        let refusal =
            |command: &str| format!("```sh refused\n{command}\n```\n```text\nno UUID\n```\n");
        let uuid = "4f0f2e64-2f4a-4c19-93f5-5f4a6d0f2c11";
        for (command, is_good) in [
            (format!("echo 'x: no {uuid}!' >&2; exit 1"), true),
            (format!("echo 'x: no {uuid}!' >&2"), false),
            ("echo other >&2; exit 1".to_owned(), false),
            (format!("echo 'no {uuid}' >&2; false; true"), true),
        ] {
            assert_eq!(run(&refusal(&command)).0, is_good, "{command}");
        }
    }

    #[test]
    fn a_file_is_there_for_the_commands_that_follow_until_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.rs").display().to_string();
        let page = |content: &str| format!("```rust {file}\n{content}\n```\n");
        let show = format!("```sh\ncat {file}\n```\n");
        let (is_done, text) = run(&[page("$A"), show.clone(), page("'B'"), show].concat());
        assert!(is_done);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("---"))
            .collect();
        assert_eq!(lines, ["$A", "'B'"]);
    }

    #[test]
    fn what_comes_after_a_while_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n").display().to_string();
        let page = format!("```sh eventually\necho >>{file}\n[ \"$(wc -l <{file})\" = 3 ]\n```\n");
        assert!(run(&page).0);
    }

    #[test]
    fn a_page_that_cannot_be_run_is_told_by_its_line() {
        for (page, words) in [
            ("```sh\nls\n", "line 0: the block does not end"),
            ("```sh sometimes\nls\n```\n", "line 0: no such outcome"),
            (
                "```sh refused\nls\n```\n",
                "line 2: a refusal without words",
            ),
        ] {
            assert!(
                blocks(page).unwrap_err().to_string().contains(words),
                "{page}"
            );
        }
    }
}
