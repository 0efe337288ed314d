//! `ancestral selftest`: passes whatever the threads and the path, and says so where something differs.

use std::io::Write;
use std::process::{Command, Output};

use ancestral::numerics::instruction_set::InstructionSet;
use ancestral::selftest::{self, EXPECTED};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn selftest(path: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ancestral"));
    command.arg("selftest").args(arguments).env_remove("ANCESTRAL_PATH");
    if let Some(path) = path {
        command.env("ANCESTRAL_PATH", path);
    }
    command.output().expect("the command runs")
}

#[test]
fn selftest_reproduces_the_contract_with_any_number_of_threads() {
    for threads in [1, 2, 3, 7, 16] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        let chain = pool.install(selftest::run).expect("finite numbers");
        assert_eq!(chain.first_difference(EXPECTED), None, "{threads} threads");
    }
}

#[test]
fn selftest_reproduces_the_contract_on_every_path() {
    for path in ["avx512", "avx2", "portable"] {
        let output = selftest(Some(path), &["--json", "--threads", "2"]);
        if output.status.code() == Some(2) && path != "portable" && path != InstructionSet::fastest().name() {
            let because = String::from_utf8_lossy(&output.stderr);
            writeln!(std::io::stderr(), "skipped: the selftest on {path}, because {}", because.trim())
                .expect("it is open");
            continue;
        }
        let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(output.status.code(), Some(0), "{path}: {report}");
        assert_eq!(
            (&report["path"], &report["threads"], &report["reproduces"]),
            (&path.into(), &2.into(), &true.into())
        );
        let chain: String = Sha256::digest(EXPECTED).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(report["chain"], chain, "the last running hash is that of expected.txt");
    }
}

#[test]
fn selftest_with_a_planted_difference_names_the_first_link_and_exits_with_1() {
    let names: Vec<&str> = EXPECTED.lines().map(|line| line.split(' ').next().expect("a name")).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("planted.txt");
    for first in ["arithmetic.fma_f32", "products.f32_k_257", "network.weights_after_step_7"] {
        let at = names.iter().position(|name| *name == first).expect("a link");
        let planted =
            |(i, line): (usize, &str)| if i < at { format!("{line}\n") } else { format!("{} {:064}\n", names[i], 0) };
        std::fs::write(&file, EXPECTED.lines().enumerate().map(planted).collect::<String>()).expect("a file");
        let output = selftest(None, &["--against", file.to_str().expect("text")]);
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(1), "{text}");
        let last = text.lines().last().expect("a line");
        assert!(last.ends_with(&format!("{first} is the first link that differs")), "{last}");
        assert!(text.contains(&format!("  expected {:064}", 0)), "{text}");
    }
}

#[test]
fn selftest_reads_what_it_printed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("here.txt");
    std::fs::write(&file, selftest(None, &[]).stdout).expect("a file");
    let output = selftest(None, &["--against", file.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn command_on_a_path_that_there_is_not_refuses_to_start() {
    let output = selftest(Some("fast"), &[]);
    let message = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{message}");
    assert!(message.contains("ANCESTRAL_PATH: expected ") && message.contains("found `fast`"), "{message}");
}
