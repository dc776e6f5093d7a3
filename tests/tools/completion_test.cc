// Shell completion as the shells see it: `guideway __complete`, and the scripts in real bash, zsh
// and fish against a daemon's control side in this process. GUIDEWAY in the environment names the
// program. A shell that is not installed is passed over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/support/api_daemon.h"
#include "tests/support/program.h"

namespace guideway {
namespace {

using testing::Contains;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using testing::Not;
using testing::StartsWith;
using testing::UnorderedElementsAre;

using Strings = std::vector<std::string>;

class CompletionTest : public testing::Test {
 protected:
  CompletionTest()
      : daemon_(ConfigText(absl::StrCat(
            ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }"),
            ServiceText("dns", 2, "{ name: a, address: 10.0.0.3 }")))) {
    std::filesystem::create_directory(Path("files"));
    std::ofstream(Path("files/one.yaml")) << "";
    std::ofstream(Path("files/two words.yaml")) << "";
    std::filesystem::create_symlink(std::getenv("GUIDEWAY"), Path("guideway"));
  }

  std::string Path(const std::string& name) const { return daemon_.directory() + "/" + name; }
  std::string AtSocket() const { return absl::StrCat("--socket ", daemon_.socket(), " "); }

  // What `guideway __complete WORDS` says, without what the candidates mean.
  Strings Candidates(const std::string& words) {
    const Result result = RunGuideway(daemon_.directory(), "__complete " + words);
    EXPECT_EQ(result.exit_status, 0) << words;
    EXPECT_THAT(result.err, IsEmpty()) << words;
    return Lines(result.out);
  }

  static Strings Lines(const std::string& text) {
    Strings lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
    for (std::string& line : lines) line.resize(std::min(line.find('\t'), line.size()));
    return lines;
  }

  static bool Have(const std::string& shell) {
    return std::system(absl::StrCat("command -v ", shell, " >/dev/null").c_str()) == 0;
  }

  // Lines that `script` prints in the shell. It runs where the files are, with `guideway` on its
  // PATH.
  Strings In(const std::string& shell, const std::string& script) {
    const std::string file = Path("script");
    std::ofstream(file) << script;
    const std::string out = Path("shell_out"), err = Path("shell_err");
    const int status = std::system(absl::StrCat("cd ", Path("files"), " && HOME=", Path("files"),
                                                " PATH=", daemon_.directory(), ":$PATH ", shell,
                                                " ", file, " >", out, " 2>", err, " </dev/null")
                                       .c_str());
    EXPECT_EQ(status, 0) << Slurp(out) << Slurp(err);
    EXPECT_THAT(Slurp(err), IsEmpty()) << shell;
    return absl::StrSplit(Slurp(out), '\n', absl::SkipEmpty());
  }

  // What bash offers for these words, the cursor at the last of them but `behind`.
  Strings Bash(const std::string& words, int behind = 0) {
    return In("bash --norc",
              absl::StrCat("source <(guideway completion bash)\n", "COMP_WORDS=(", words, ")\n",
                           "COMP_CWORD=$((${#COMP_WORDS[@]} - 1 - ", behind,
                           "))\n"
                           "_guideway\n"
                           "printf '%s\\n' \"${COMPREPLY[@]}\"\n"));
  }

  // The same of zsh's script, with the functions of zsh's completion that it hands its results to
  // replaced by ones that print them.
  Strings Zsh(const std::string& words) {
    return In("zsh -f", absl::StrCat("compdef() { : }\n"
                                     "compset() { : }\n"
                                     "_describe() { print -l -- ${(P)3} }\n"
                                     "_files() { print FILES }\n"
                                     "source <(guideway completion zsh)\n",
                                     "words=(", words, ")\n", "CURRENT=$#words\n_guideway\n"));
  }

  // What fish offers at the end of this line, without what it means.
  Strings Fish(const std::string& line) {
    return Lines(absl::StrJoin(
        In("fish --no-config",
           absl::StrCat("guideway completion fish | source\n", "complete -C '", line, "'\n")),
        "\n"));
  }

  ApiDaemon daemon_;
};

TEST_F(CompletionTest, Revisions) {
  EXPECT_THAT(Candidates(AtSocket() + "history ''"), ElementsAre("1"));
  EXPECT_THAT(Candidates(AtSocket() + "rollback ''"), IsEmpty()) << "it is in force";
  ASSERT_EQ(RunGuideway(daemon_.directory(), AtSocket() + "drain web/a").exit_status, 0);
  EXPECT_THAT(Candidates(AtSocket() + "history ''"), ElementsAre("2", "1"));
  EXPECT_THAT(Candidates(AtSocket() + "rollback ''"), ElementsAre("1"));
  EXPECT_THAT(RunGuideway(daemon_.directory(), "__complete " + AtSocket() + "rollback ''").out,
              ContainsRegex("^1\t20..-..-.. ..:..:.. UTC start by start\n$"));
  EXPECT_THAT(Candidates(AtSocket() + "history 3"), IsEmpty());
}

TEST_F(CompletionTest, VerbsAndOptions) {
  EXPECT_THAT(Candidates("''"), IsSupersetOf({"check", "status", "get", "drain", "completion"}));
  EXPECT_THAT(Candidates(""), Contains("check"));
  EXPECT_THAT(Candidates("unk"), IsEmpty());
  EXPECT_THAT(Candidates("und"), ElementsAre("undrain"));
  EXPECT_THAT(Candidates("--"), ElementsAre("--output", "--socket", "--help", "--version"));
  EXPECT_THAT(Candidates("explain --"),
              ElementsAre("--config", "--down", "--output", "--socket", "--help", "--version"));
  EXPECT_THAT(Candidates("explain --c"), ElementsAre("--config"));
  // Nothing that would be without effect.
  EXPECT_THAT(Candidates("check --"), ElementsAre("--output", "--help", "--version"));
  EXPECT_THAT(Candidates("completion --"), ElementsAre("--help", "--version"));
  EXPECT_THAT(Candidates("completion -o ''"), IsEmpty());
  EXPECT_THAT(Candidates("bogus ''"), IsEmpty());
  EXPECT_THAT(RunGuideway(daemon_.directory(), "__complete dr").out, StartsWith("drain\tgive "))
      << "with what it means";
}

// Whatever the table of verbs says: every verb is offered, and every option of its --help.
TEST_F(CompletionTest, KnowsWhatHelpKnows) {
  for (const std::string& verb : Candidates("''")) {
    const std::string help = RunGuideway(daemon_.directory(), verb + " --help").out;
    EXPECT_THAT(help, StartsWith("usage: guideway " + verb));
    EXPECT_THAT(help, HasSubstr(absl::StrCat("\n  guideway ", verb, " "))) << "an example";
    for (const std::string& option : Candidates(verb + " --")) {
      EXPECT_THAT(help, HasSubstr(option)) << verb;
    }
  }
}

TEST_F(CompletionTest, ValuesByTheirPlaceholder) {
  EXPECT_THAT(Candidates("check ''"), ElementsAre(":file"));
  EXPECT_THAT(Candidates("check a ''"), IsEmpty()) << "it takes one";
  EXPECT_THAT(Candidates("plan a ''"), ElementsAre(":file"));
  EXPECT_THAT(Candidates("check -o j"), ElementsAre("json"));
  EXPECT_THAT(Candidates("-o json che"), ElementsAre("check"));
  EXPECT_THAT(Candidates("check --output ''"), ElementsAre("table", "json", "yaml"));
  EXPECT_THAT(Candidates("check --output=y"), ElementsAre("yaml"));
  EXPECT_THAT(Candidates("check --output = y"), ElementsAre("yaml")) << "as bash splits it";
  EXPECT_THAT(Candidates("check --output ="), ElementsAre("table", "json", "yaml"));
  EXPECT_THAT(Candidates("check --output = yaml ''"), ElementsAre(":file"));
  EXPECT_THAT(Candidates("replay --in x.pcap --out ''"), ElementsAre(":file"));
  EXPECT_THAT(Candidates("--socket ''"), ElementsAre(":file"));
  EXPECT_THAT(Candidates("get s"), ElementsAre("services"));
  EXPECT_THAT(Candidates("table --size ''"), IsEmpty()) << "a number";
}

TEST_F(CompletionTest, NamesOfTheDaemon) {
  EXPECT_THAT(Candidates(AtSocket() + "drain ''"), UnorderedElementsAre("web/a", "web/b", "dns/a"));
  EXPECT_THAT(Candidates(AtSocket() + "drain web/"), UnorderedElementsAre("web/a", "web/b"));
  EXPECT_THAT(Candidates(absl::StrCat("drain --socket=", daemon_.socket(), " d")),
              ElementsAre("dns/a"));
  EXPECT_THAT(Candidates(absl::StrCat("drain --socket = ", daemon_.socket(), " d")),
              ElementsAre("dns/a"));
  EXPECT_THAT(Candidates(AtSocket() + "undrain ''"), IsEmpty());
  ASSERT_EQ(RunGuideway(daemon_.directory(), AtSocket() + "drain web/b").exit_status, 0);
  EXPECT_THAT(Candidates(AtSocket() + "undrain ''"), ElementsAre("web/b"));
  EXPECT_THAT(Candidates(AtSocket() + "weight web/b ''"), ElementsAre("file"));
  EXPECT_THAT(Candidates(AtSocket() + "get flows --backend d"), ElementsAre("dns/a"));
  EXPECT_THAT(Candidates(AtSocket() + "get flows --entries --service w"), ElementsAre("web"));
  EXPECT_THAT(Candidates("drain --socket /nowhere ''"), IsEmpty());
  EXPECT_THAT(Candidates(AtSocket() + "explain --down ''"), IsEmpty())
      << "not of this daemon, but of a file";
}

// It accepts nobody, and never answers.
TEST_F(CompletionTest, ADaemonThatHangsHasNoNames) {
  const std::string path = Path("hangs");
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* const at = reinterpret_cast<const sockaddr*>(&address);
  const int server = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(server, at, sizeof(address)), 0);
  ASSERT_EQ(listen(server, 0), 0);
  EXPECT_THAT(Candidates(absl::StrCat("drain --socket ", path, " ''")), IsEmpty())
      << "no answer; the connection is still in the queue then, and fills it";
  EXPECT_THAT(Candidates(absl::StrCat("drain --socket ", path, " ''")), IsEmpty())
      << "no place in the queue";
  close(server);
}

TEST_F(CompletionTest, Bash) {
  if (!Have("bash")) GTEST_SKIP() << "bash is not installed";
  EXPECT_THAT(Bash("guideway ''"), IsSupersetOf({"check", "completion"}));
  EXPECT_THAT(Bash("guideway und"), ElementsAre("undrain"));
  EXPECT_THAT(Bash("guideway und web/a --socket x", 3), ElementsAre("undrain"))
      << "what is behind the cursor does not count";
  EXPECT_THAT(Bash("guideway check -o y"), ElementsAre("yaml"));
  EXPECT_THAT(Bash("guideway check --output = y"), ElementsAre("yaml"));
  EXPECT_THAT(Bash("guideway check o"), ElementsAre("one.yaml"));
  EXPECT_THAT(Bash("guideway check ''"), UnorderedElementsAre("one.yaml", "two words.yaml"));
  EXPECT_THAT(Bash("guideway --socket ="), UnorderedElementsAre("one.yaml", "two words.yaml"));
  EXPECT_THAT(Bash(absl::StrCat("guideway ", AtSocket(), "drain w")),
              ElementsAre("web/a", "web/b"));
}

TEST_F(CompletionTest, Zsh) {
  if (!Have("zsh")) GTEST_SKIP() << "zsh is not installed";
  EXPECT_THAT(Zsh("guideway ''"),
              Contains("check:validate a configuration and show it with its defaults"));
  EXPECT_THAT(Zsh("guideway check -o y"), ElementsAre("yaml"));
  EXPECT_THAT(Zsh("guideway check --output=y"), ElementsAre("yaml"));
  EXPECT_THAT(Zsh("guideway check ''"), ElementsAre("FILES"));
  EXPECT_THAT(Zsh("guideway bogus ''"), IsEmpty());
  EXPECT_THAT(Zsh(absl::StrCat("guideway ", AtSocket(), "drain w")),
              ElementsAre("web/a:10.0.0.1 up", "web/b:10.0.0.2 up"));
}

// A line editor with a terminal of its own, and a TAB in it.
TEST_F(CompletionTest, ZshAsPeopleUseIt) {
  if (!Have("zsh")) GTEST_SKIP() << "zsh is not installed";
  EXPECT_THAT(In("timeout 60 zsh -f",
                 "zmodload zsh/zpty\n"
                 "zpty shell zsh -f -i\n"
                 "zpty -w shell 'autoload -U compinit; compinit -u -D; "
                 "source <(guideway completion zsh)'\n"
                 "zpty -w shell $'guideway --vers\\t'\n"
                 "zpty -r shell seen '*guideway " GUIDEWAY_VERSION "*' && print found\n"
                 "zpty -w shell $'guideway --output=tab\\t--vers\\t'\n"
                 "zpty -r shell seen '*guideway " GUIDEWAY_VERSION "*' && print found\n"
                 "zpty -w shell $'guideway check on\\t'\n"
                 "zpty -r shell seen '*one.yaml:1:*' && print found\n"),
              ElementsAre("found", "found", "found"));
}

TEST_F(CompletionTest, Fish) {
  if (!Have("fish")) GTEST_SKIP() << "fish is not installed";
  EXPECT_THAT(Fish("guideway "), IsSupersetOf({"check", "completion"}));
  EXPECT_THAT(Fish("guideway und"), ElementsAre("undrain"));
  EXPECT_THAT(Fish("guideway o"), IsEmpty()) << "no files where none belong";
  EXPECT_THAT(Fish("guideway check -o y"), ElementsAre("yaml"));
  EXPECT_THAT(Fish("guideway check --output=y"), ElementsAre("--output=yaml"));
  EXPECT_THAT(Fish("guideway check o"), ElementsAre("one.yaml"));
  EXPECT_THAT(Fish("guideway --socket=o"), ElementsAre("--socket=one.yaml"));
  EXPECT_THAT(Fish(absl::StrCat("guideway ", AtSocket(), "drain w")),
              UnorderedElementsAre("web/a", "web/b"));
}

TEST_F(CompletionTest, AnUnknownShell) {
  const Result result = RunGuideway(daemon_.directory(), "completion bahs");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("did you mean bash? See `guideway completion --help`"));
}

}  // namespace
}  // namespace guideway
