// `guideway` as people call it: the real program as a process, against a daemon's control side in
// this one. GUIDEWAY in the environment names the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/support/api_daemon.h"
#include "tests/support/program.h"

namespace guideway {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Le;
using testing::Not;
using testing::StartsWith;

constexpr char kAbc[] =
    "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }, "
    "{ name: c, address: 10.0.0.3, state: drain }";

class GuidewayTest : public testing::Test {
 protected:
  GuidewayTest() : daemon_(ConfigText(ServiceText("web", 1, kAbc))) {}

  std::string WriteFile(const std::string& name, const std::string& text) {
    const std::string path = daemon_.directory() + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  // `arguments` as in a shell.
  Result Run(const std::string& arguments) { return RunGuideway(daemon_.directory(), arguments); }
  Result Live(const std::string& arguments) {
    return Run(absl::StrCat("--socket ", daemon_.socket(), " ", arguments));
  }

  // What a live call prints on a terminal of that many columns.
  std::string OnTerminal(const std::string& environment, int width, const std::string& arguments) {
    const std::string command =
        absl::StrCat("unset NO_COLOR; TERM=xterm; export TERM; exec env ", environment, " ",
                     std::getenv("GUIDEWAY"), " --socket ", daemon_.socket(), " ", arguments);
    const winsize size = {.ws_row = 24, .ws_col = static_cast<unsigned short>(width)};
    int terminal = -1;
    const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
    EXPECT_GT(child, 0);
    std::string printed;
    char buffer[4096];
    for (ssize_t n; (n = read(terminal, buffer, sizeof(buffer))) > 0;) {
      printed.append(buffer, static_cast<size_t>(n));
    }
    close(terminal);
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0) << printed;
    return printed;
  }

  // Columns of the longest line.
  static int Longest(const std::string& text) {
    int longest = 0;
    for (absl::string_view line : absl::StrSplit(absl::StrReplaceAll(text, {{"\r", ""}}), '\n')) {
      longest = std::max(
          longest, static_cast<int>(std::count_if(line.begin(), line.end(),
                                                  [](char c) { return (c & 0xc0) != 0x80; })));
    }
    return longest;
  }

  ApiDaemon daemon_;
};

TEST_F(GuidewayTest, HelpIsEverywhere) {
  const Result all = Run("--help");
  EXPECT_EQ(all.exit_status, 0);
  EXPECT_THAT(all.err, IsEmpty());
  for (const char* verb : {"check", "table", "status", "get", "top", "drain", "undrain", "apply"}) {
    EXPECT_THAT(all.out, HasSubstr(absl::StrCat("\n  ", verb, " ")));
    const Result one = Run(absl::StrCat(verb, " --help"));
    EXPECT_EQ(one.exit_status, 0) << verb;
    EXPECT_THAT(one.out, StartsWith(absl::StrCat("usage: guideway ", verb)));
  }
  EXPECT_EQ(Run("--version").out, "guideway " GUIDEWAY_VERSION "\n");
  EXPECT_EQ(Run("help").out, all.out);
  EXPECT_EQ(Run("help drain").out, Run("drain --help").out);
}

TEST_F(GuidewayTest, AWrongCallIsTwo) {
  struct {
    const char* arguments;
    const char* says;
  } rows[] = {
      {"", "usage:"},
      {"bogus", "there is no verb \"bogus\"; see `guideway --help`"},
      {"chek", "did you mean check? See `guideway --help`"},
      {"statsu", "did you mean status? See `guideway --help`"},
      {"gut", "did you mean get? See `guideway --help`"},
      {"tip", "did you mean top? See `guideway --help`"},
      {"brian", "there is no verb \"brian\"; see `guideway --help`"},
      {"tape", "there is no verb \"tape\"; see `guideway --help`"},
      {"status -o jsn", "did you mean json?"},
      {"get backend", "did you mean backends? See `guideway get --help`"},
      {"table --bakends 3", "did you mean --backends? See `guideway table --help`"},
      {"--versoin", "did you mean --version? See `guideway --help`"},
      {"check --bakends 3", "there is no option --bakends; see `guideway check --help`"},
      {"check", "FILE"},
      {"check a b", "\"b\""},
      {"check a --size 7", "--size has no effect with check"},
      {"status extra", "\"extra\""},
      {"status --nonsense", "--nonsense"},
      {"status --socket", "--socket"},
      {"status -o xml", "\"xml\""},
      {"status -o json -o yaml", "output"},
      {"get", "services|backends|interfaces|workers|flows|events"},
      {"status --count 3", "--count has no effect without --watch"},
      {"top --interval 1",
       "--interval 1 is not a time from 100ms to 24h, such as 500ms or 2s; see `guideway top "
       "--help`"},
      {"top --count -1", "--count -1 is not a number from 1 up; see `guideway top --help`"},
      {"top --interval", "is missing; see `guideway top --help`"},
      {"status --watch --count x", "from 1 up; see `guideway status --help`"},
      {"get everything", "\"everything\""},
      {"drain", "SERVICE/BACKEND"},
      {"drain web", "\"web\""},
      {"drain web/", "\"web/\""},
      {"undrain /a", "\"/a\""},
      {"apply", "FILE"},
  };
  for (const auto& row : rows) {
    const Result result = Live(row.arguments);
    EXPECT_EQ(result.exit_status, 2) << row.arguments;
    EXPECT_THAT(result.err, HasSubstr(row.says)) << row.arguments;
    EXPECT_THAT(result.out, IsEmpty()) << row.arguments;
  }
}

TEST_F(GuidewayTest, CheckOfAGoodFile) {
  const std::string file = WriteFile("good.yaml", ConfigText(ServiceText("web", 1, kAbc)));
  const Result table = Run("check " + file);
  EXPECT_EQ(table.exit_status, 0);
  EXPECT_THAT(table.out, StartsWith(file + ": valid\n1 interface, 1 route, 1 service, 3 backends"));
  EXPECT_THAT(table.out, HasSubstr("\n    tcp_handshake: 10s\n")) << "a default";
  EXPECT_THAT(table.err, IsEmpty());

  const Result json = Run("check -o json " + file);
  EXPECT_EQ(json.exit_status, 0);
  EXPECT_THAT(json.out, AllOf(HasSubstr("\"valid\": true"), HasSubstr("\"errors\": []"),
                              HasSubstr("\"warnings\": []"), HasSubstr("\"table_size\": 1009")));

  // The same shape; its `config`, as what a person sees, is a configuration again.
  const Result yaml = Run("check -o yaml " + file);
  EXPECT_EQ(yaml.exit_status, 0);
  EXPECT_THAT(
      yaml.out,
      StartsWith("valid: true\nerrors: []\nwarnings: []\nconfig:\n  fleet:\n    hash_seed: 7\n"));
  const std::string config = table.out.substr(table.out.find("\n# "));
  const Result again = Run("check -o yaml " + WriteFile("again.yaml", config));
  EXPECT_EQ(again.out, yaml.out);
  const Result bad = Run("check -o yaml " + WriteFile("bad.yaml", "services: 3\n"));
  EXPECT_EQ(bad.exit_status, 1);
  EXPECT_THAT(bad.out, ContainsRegex("^valid: false\nerrors: \\[\".*bad.yaml:1:.*\"\\]\n"
                                     "warnings: \\[\\]\nconfig: null\n$"));
}

// `-` is standard input; what it names is looked for where the command runs.
TEST_F(GuidewayTest, AConfigurationFromStandardInput) {
  const std::string good = WriteFile("good.yaml", ConfigText(ServiceText("web", 1, kAbc)));
  const std::string bad = WriteFile("bad.yaml", "services: 3\n");
  Result result = Run("check - < " + good);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("<stdin>: valid\n"));
  EXPECT_EQ(Run("check -o json - < " + good).out, Run("check -o json " + good).out);
  result = Run("check - < " + bad);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, StartsWith("<stdin>:1:1"));
  result = Run("check - <&-");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, StartsWith("<stdin>: "));
  for (const char* call : {"check -", "plan -", "apply -", "plan - good.yaml"}) {
    result = Live(absl::StrCat(call, " < /dev/null"));
    EXPECT_EQ(result.exit_status, 1) << call;
    EXPECT_THAT(result.err, StartsWith("<stdin>:1:1: it is empty; allowed: a configuration"))
        << call;
  }
  result = Run("check - < /dev/zero");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, StartsWith("<stdin>:1:1: the file is larger than 64 MiB"));

  WriteFile("list.txt", "nonsense\n");
  const std::string naming = WriteFile("naming.yaml", ConfigText(ServiceText("web", 1, kAbc)) +
                                                          "\naccess: { deny_files: [list.txt] }\n");
  for (const std::string& where : {std::string("/"), daemon_.directory()}) {
    const std::string command =
        absl::StrCat("cd ", where, " && exec ", std::getenv("GUIDEWAY"), " check - < ", naming,
                     " 2>", daemon_.directory(), "/errors");
    EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 1);
    const std::string errors = Slurp(daemon_.directory() + "/errors");
    EXPECT_THAT(errors, HasSubstr(where == "/" ? "No such file" : "list.txt:1:1: ")) << where;
  }

  EXPECT_EQ(Run(absl::StrCat("plan - ", good, " < ", good)).out, "nothing changes\n");
  EXPECT_EQ(Run(absl::StrCat("plan ", good, " - < ", good)).out, "nothing changes\n");
  EXPECT_EQ(Run("plan - - < " + good).exit_status, 2);
  EXPECT_EQ(Run("replay --config - --in - < " + good).exit_status, 2);
  EXPECT_EQ(Run("explain --config - 'tcp 192.0.2.1:1 > 198.51.100.1:80' < " + good).exit_status, 0);
  EXPECT_EQ(Run("table --config - --service web < " + good).exit_status, 0);

  EXPECT_EQ(Live("plan - < " + good).out, "nothing changes\n");
  result = Live("apply - < " + good);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(result.out, "<stdin> is in force as revision 2\nnothing has changed\n");
  result = Live("apply - < " + bad);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, StartsWith("<stdin>:1:1"));
}

TEST_F(GuidewayTest, CheckOfABadFile) {
  const std::string file = WriteFile("bad.yaml", "services: 3\nnonsense: 1\n");
  const Result table = Run("check " + file);
  EXPECT_EQ(table.exit_status, 1);
  EXPECT_THAT(table.out, IsEmpty());
  EXPECT_THAT(table.err, HasSubstr(file + ":1:11: "));
  EXPECT_THAT(table.err, HasSubstr(file + ":2:1: "));

  const Result json = Run("check -o json " + file);
  EXPECT_EQ(json.exit_status, 1);
  EXPECT_THAT(json.out, AllOf(HasSubstr("\"valid\": false"), HasSubstr("bad.yaml:2:1: "),
                              HasSubstr("\"config\": null")));

  const Result missing = Run("check /nowhere/at/all.yaml");
  EXPECT_EQ(missing.exit_status, 1);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("/nowhere/at/all.yaml"), HasSubstr("No such file")));
}

TEST_F(GuidewayTest, Plan) {
  const std::string old = WriteFile("old.yaml", ConfigText(ServiceText("web", 1, kAbc)));
  const std::string text =
      absl::StrReplaceAll(ConfigText(ServiceText("web", 1, kAbc)), {{"name: b, address: 10.0.0.2",
                                                                     "name: d, address: "
                                                                     "10.0.0.4"}});
  const std::string changed = WriteFile("new.yaml", text);
  const Result table = Run(absl::StrCat("plan ", old, " ", changed));
  EXPECT_EQ(table.exit_status, 0);
  EXPECT_THAT(table.out, HasSubstr("service web changed\n"));
  EXPECT_THAT(table.out, HasSubstr("  backend d added\n  backend b removed\n"));
  EXPECT_THAT(table.out, HasSubstr("of new connections move; 50.0% have to\n"));
  const Result json = Run(absl::StrCat("plan -o json ", old, " ", changed));
  EXPECT_THAT(json.out, AllOf(HasSubstr("\"changes\": true"), HasSubstr("\"moved_necessary\"")));
  const Result same = Run(absl::StrCat("plan ", old, " ", old));
  EXPECT_EQ(same.out, "nothing changes\n");
  EXPECT_EQ(same.exit_status, 0);
  const Result bad = Run(absl::StrCat("plan ", old, " ", WriteFile("bad.yaml", "servces: []")));
  EXPECT_EQ(bad.exit_status, 1);
  EXPECT_THAT(bad.err, HasSubstr("bad.yaml:1:1: servces"));
  EXPECT_EQ(Run("plan a b c").exit_status, 2);
}

// What a daemon would refuse is a «no», offline and live.
TEST_F(GuidewayTest, PlanOfWhatTakesARestart) {
  const std::string text = ConfigText(ServiceText("web", 1, kAbc));
  const std::string old = WriteFile("old.yaml", text);
  const std::string fixed =
      WriteFile("fixed.yaml", absl::StrReplaceAll(text, {{"hash_seed: 7", "hash_seed: 8"}}));
  for (const Result& plan : {Run("plan " + old + " " + fixed), Live("plan " + fixed),
                             Run("plan -o json " + old + " " + fixed)}) {
    EXPECT_EQ(plan.exit_status, 1);
    EXPECT_THAT(plan.out, HasSubstr("fleet.hash_seed"));
  }
}

TEST_F(GuidewayTest, PlanReadsTheFilesThatAreNamed) {
  const std::string text =
      ConfigText(ServiceText("web", 1, kAbc)) + "access: { deny_files: [NAME] }\n";
  const std::string less = WriteFile("less.txt", "192.0.2.0/24\n");
  const std::string more = WriteFile("more.txt", "192.0.2.0/24\n10.0.0.0/8\n# why\n");
  const std::string old = WriteFile("old.yaml", absl::StrReplaceAll(text, {{"NAME", less}}));
  const std::string now = WriteFile("now.yaml", absl::StrReplaceAll(text, {{"NAME", more}}));
  const Result plan = Run("plan " + old + " " + now);
  EXPECT_EQ(plan.exit_status, 0) << plan.err;
  EXPECT_THAT(plan.out, AllOf(HasSubstr(absl::StrCat("[", more, "]: 2 prefixes added\n")),
                              HasSubstr("16777216 of all IPv4 addresses are denied")));
}

TEST_F(GuidewayTest, PlanAgainstWhatIsInForce) {
  daemon_.Do([&] { daemon_.dataplane().by_backend[1].active_flows = 12; });
  const std::string text =
      absl::StrReplaceAll(ConfigText(ServiceText("web", 1, kAbc)), {{"name: b, address: 10.0.0.2",
                                                                     "name: d, address: "
                                                                     "10.0.0.4"}});
  const std::string changed = WriteFile("new.yaml", text);
  const Result table = Live("plan " + changed);
  EXPECT_EQ(table.exit_status, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("  backend d added\n"),
                               HasSubstr("  backend b removed, with 12 open connections\n"),
                               HasSubstr("of new connections move; 50.0% have to\n"
                                         "  new connections of web then go to a "),
                               HasSubstr("\n12 open connections are cut: what they send next is "
                                         "reset by other backends, or dropped; to let them end, "
                                         "first `guideway drain web/b` and wait until `guideway "
                                         "get backends` says 0 open\n"),
                               EndsWith("\nto do it: guideway apply " + changed + "\n")));
  EXPECT_THAT(Live("plan - < " + changed).out, Not(HasSubstr("to do it"))) << "it is gone";
  EXPECT_THAT(Live("plan --discard-overrides " + changed).out,
              HasSubstr("\nto do it: guideway apply --discard-overrides /"));
  EXPECT_THAT(Live("plan -o json " + changed).out, HasSubstr("\"open_connections\": \"12\""));
  EXPECT_THAT(Live("get backends").out, HasSubstr("10.0.0.2")) << "still there";
  EXPECT_EQ(Live("plan " + WriteFile("same.yaml", ConfigText(ServiceText("web", 1, kAbc)))).out,
            "nothing changes\n");
  const Result bad = Live("plan " + WriteFile("bad.yaml", "servces: []"));
  EXPECT_EQ(bad.exit_status, 1);
  EXPECT_THAT(bad.err, HasSubstr("bad.yaml:1:1: servces"));
  EXPECT_EQ(Run("plan --socket /nowhere " + changed).exit_status, 1);
  ASSERT_EQ(Live("drain web/b").exit_status, 0);
  EXPECT_THAT(Live("plan " + changed).out,
              HasSubstr("or dropped; web/b takes no new ones: wait until `guideway get backends` "
                        "says 0 open\n"));
  EXPECT_THAT(Live("apply " + changed).out, HasSubstr("\n  new connections of web now go to a "))
      << "without a health check it is up";
}

TEST_F(GuidewayTest, WhatHasYetToComeUpIsSaid) {
  const std::string check = "health_check: { tcp: {} }";
  const std::string was =
      WriteFile("was.yaml", ConfigText(ServiceText("web", 1,
                                                   "{ name: a, address: 10.0.0.1 }, "
                                                   "{ name: b, address: 10.0.0.2 }",
                                                   check)));
  const std::string is =
      WriteFile("is.yaml", ConfigText(ServiceText("web", 1,
                                                  "{ name: a, address: 10.0.0.1 }, "
                                                  "{ name: b, address: 10.0.0.3 }, "
                                                  "{ name: c, address: 10.0.0.4 }",
                                                  check)));
  EXPECT_THAT(
      Run(absl::StrCat("plan ", was, " ", is)).out,
      ContainsRegex("\n  new connections of web then go to a .*, once [bc], [bc] are up\n"));
}

TEST_F(GuidewayTest, ApplyWithABound) {
  const std::string file =
      WriteFile("new.yaml", ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }")));
  for (const char* wrong : {"2", "-1%", "101%", "nan%", "x%", "%"}) {
    const Result result = Live(absl::StrCat("apply --max-moved=", wrong, " ", file));
    EXPECT_EQ(result.exit_status, 2) << wrong;
    EXPECT_THAT(result.err, HasSubstr("is not a share from 0% to 100%, written like 2%"));
    EXPECT_EQ(absl::StrContains(result.err, "did you mean 2%? See `guideway apply --help`"),
              wrong == absl::string_view("2"))
        << result.err;
  }
  EXPECT_THAT(Live("apply --max-moved 0.02 " + file).err, HasSubstr("did you mean 2%, or 0.02%?"));
  EXPECT_THAT(Live("apply --max-moved new.yaml").err,
              StartsWith("guideway: --max-moved \"new.yaml\" is not a share from 0% to 100%"));
  const Result refused = Live("apply --max-moved 2% " + file);
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.err, HasSubstr("of service web's new connections would move, and no more "
                                     "than 2% may; `guideway plan " +
                                     file + "` tells"));
  EXPECT_THAT(Live("get backends").out, HasSubstr("10.0.0.2")) << "nothing has changed";
  const Result applied = Live("apply --max-moved 60% " + file);
  EXPECT_EQ(applied.exit_status, 0) << applied.err;
  EXPECT_THAT(applied.out,
              AllOf(StartsWith(file + " is in force as revision 2\nservice web changed\n"
                                      "  backend b removed\n  backend c removed\n  50.0% of new "
                                      "connections move; 50.0% have to\n  new connections of web "
                                      "now go to a 100%\n"),
                    Not(HasSubstr("to do it"))));

  const Result back = Live("rollback --max-moved 2%");
  EXPECT_EQ(back.exit_status, 1) << back.out;
  EXPECT_THAT(back.err, AllOf(StartsWith("revision 1 is not put in force: 50.0% of service web's"),
                              HasSubstr("`guideway rollback --dry-run 1` tells")));
  EXPECT_EQ(Live("rollback --max-moved 50%").exit_status, 0);
}

TEST_F(GuidewayTest, ALongChangeIsToldInPart) {
  std::string services, backends;
  for (int i = 1; i <= 25; ++i) {
    absl::StrAppend(&services, ServiceText(absl::StrCat("s", i), i, kAbc));
    absl::StrAppend(&backends, "{ name: n", i, ", address: 10.0.1.", i, " }, ");
  }
  EXPECT_THAT(
      Live("apply " + WriteFile("new.yaml", ConfigText(services))).out,
      AllOf(HasSubstr("is in force as revision 2\nservice web removed\n"),
            HasSubstr("\nservice s19 added\n"), EndsWith("\nand 6 more services: 6 added\n")));
  const std::string few = ConfigText(ServiceText("new", 30, kAbc) +
                                     ServiceText("s23", 23, "{ name: a, address: 10.0.0.1 }"));
  const Result removed = Live("apply " + WriteFile("new.yaml", few));
  EXPECT_THAT(removed.out, AllOf(HasSubstr("\nservice s20 removed\n"),
                                 EndsWith("\nand 6 more services: 4 removed, 1 added, 1 changed, "
                                          "with at most 50.0% of new connections moved\n")));
  const Result many =
      Live("apply " + WriteFile("new.yaml", ConfigText(ServiceText("s1", 1, backends))));
  EXPECT_THAT(many.out, HasSubstr("\n  backend n10 added\n  and 15 more backends\n"));
}

TEST_F(GuidewayTest, WhatIsDoneBeginsWithWhatIsLost) {
  ASSERT_EQ(Live("apply " + WriteFile("new.yaml", ConfigText(ServiceText("web", 1, kAbc) +
                                                             ServiceText("x", 3, kAbc) +
                                                             ServiceText("y", 4, kAbc))))
                .exit_status,
            0);
  const std::string file = WriteFile(
      "less.yaml",
      ConfigText(ServiceText("new", 2, kAbc) +
                 ServiceText("x", 3, absl::StrCat(kAbc, ", { name: d, address: 10.0.0.4 }")) +
                 ServiceText("y", 4, "{ name: a, address: 10.0.0.1 }")));
  // The lines that name a service.
  const auto order = [](const std::string& out) {
    std::vector<std::string> lines;
    for (absl::string_view line : absl::StrSplit(out, '\n')) {
      if (absl::StartsWith(line, "service ")) lines.emplace_back(line);
    }
    return lines;
  };
  EXPECT_THAT(order(Live("plan " + file).out),
              ElementsAre("service new added", "service x changed", "service y changed",
                          "service web removed"));
  EXPECT_THAT(order(Live("apply " + file).out),
              ElementsAre("service web removed", "service y changed", "service x changed",
                          "service new added"));
}

TEST_F(GuidewayTest, WhatIsByHandHoldsOverTheFileAndAPlanSaysSo) {
  ASSERT_EQ(Live("weight web/a 50").exit_status, 0);
  ASSERT_EQ(Live("drain web/b").exit_status, 0);
  const std::string same = WriteFile("same.yaml", ConfigText(ServiceText("web", 1, kAbc)));
  EXPECT_THAT(Live("plan " + same).err, Not(HasSubstr("by hand")));
  const std::string file = WriteFile(
      "new.yaml", ConfigText(ServiceText("web", 1,
                                         "{ name: a, address: 10.0.0.1, weight: 30 }, "
                                         "{ name: b, address: 10.0.0.2, weight: 70 }, "
                                         "{ name: c, address: 10.0.0.3, state: drain }")));
  const std::string weight =
      "weights by hand hold over the configuration's: web/a 50 (configuration: 100, now 30): "
      "`guideway weight SERVICE/BACKEND file`, or an `apply --discard-overrides`, ends that";
  const std::string drain =
      "drained by hand, whatever the configuration says: web/b (configuration: weight 70): "
      "`guideway undrain SERVICE/BACKEND`, or an `apply --discard-overrides`, ends that";
  const std::string both = absl::StrCat("warning: ", weight, "\nwarning: ", drain, "\n");
  EXPECT_THAT(Live("plan " + file).err, HasSubstr(both));
  EXPECT_THAT(Live("plan --discard-overrides " + file).err, Not(HasSubstr("hold over")));
  EXPECT_THAT(Live("plan -o json " + file).out, HasSubstr(weight));
  EXPECT_THAT(Live("apply " + file).err, HasSubstr(both));
  EXPECT_THAT(Live("apply " + file).err, Not(HasSubstr("hold over"))) << "nothing is new";
}

TEST_F(GuidewayTest, ARollbackCanBeTried) {
  const std::string file =
      WriteFile("new.yaml", ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }")));
  EXPECT_EQ(Live("rollback --dry-run").exit_status, 1) << "there is none before";
  ASSERT_EQ(Live("apply " + file).exit_status, 0);
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  for (const char* number : {"", " 1"}) {
    const Result plan = Live(absl::StrCat("rollback --dry-run", number));
    EXPECT_EQ(plan.exit_status, 0) << plan.err;
    EXPECT_THAT(plan.out,
                AllOf(StartsWith("a rollback to revision 1:\nno longer by hand: drain web/a\n"
                                 "service web changed\n  backend b added\n"),
                      HasSubstr("\n  new connections of web then go to a "),
                      EndsWith("\nto do it: guideway rollback 1\n")));
  }
  EXPECT_THAT(Live("rollback --dry-run -o json").out, HasSubstr("\"rolled_back_to\": \"1\""));
  EXPECT_THAT(Live("history").out, Not(HasSubstr("rollback"))) << "nothing has changed";
  EXPECT_EQ(Live("rollback --dry-run 9").exit_status, 2);
  EXPECT_EQ(Live("rollback --dry-run --max-moved 2%").exit_status, 2);
}

TEST_F(GuidewayTest, ARemovedServiceIsToldWhatBecomesOfItsConnections) {
  const std::string web = ServiceText("web", 1, kAbc), other = ServiceText("x", 2, kAbc);
  const std::string both = WriteFile("both.yaml", ConfigText(web + other));
  const Result plan = Run(absl::StrCat("plan ", both, " ", WriteFile("web.yaml", ConfigText(web))));
  EXPECT_EQ(plan.exit_status, 0) << plan.err;
  EXPECT_THAT(plan.out,
              AllOf(HasSubstr("service x removed\n"),
                    HasSubstr("\n  100% of its new connections are not its own any more: what "
                              "comes to its VIPs is punted, which in this version is its end\n"),
                    HasSubstr("\nopen connections of backends that leave are cut; how many there "
                              "are only a running guidewayd knows: guideway plan ")));
  EXPECT_THAT(
      Run(absl::StrCat("plan ", both, " ",
                       WriteFile("taken.yaml", ConfigText(web + ServiceText("y", 2, kAbc)))))
          .out,
      HasSubstr("\n  100% of its new connections are not its own any more: other services"));
}

TEST_F(GuidewayTest, WithoutTheLastBackendItIsLoud) {
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  Result result = Live("drain web/b");
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.out,
              StartsWith("! no backend takes new connections of web: they are dropped; `guideway "
                         "undrain web/b` undoes it\nweb/b is drained: "));
  EXPECT_THAT(Live("drain web/b").out,
              StartsWith("! no backend takes new connections of web: they are dropped\n"));
  EXPECT_THAT(Live("status").out,
              HasSubstr("\n! no backend takes new connections of 1 service: web\n"));
  EXPECT_THAT(Live("undrain web/b").out, Not(HasSubstr("!")));
  EXPECT_THAT(Live("weight web/b 0").out,
              StartsWith("! no backend takes new connections of web: they are dropped; `guideway "
                         "weight web/b file` undoes it\nweb/b has weight 0 by hand"));
  ASSERT_EQ(Live("weight web/b 7").exit_status, 0);
  EXPECT_THAT(Live("weight web/b 0").out, HasSubstr("`guideway weight web/b 7` undoes it\n"));
  ASSERT_EQ(Live("undrain web/a").exit_status, 0);
  const std::string file =
      WriteFile("new.yaml",
                ConfigText(ServiceText("web", 1, "{ name: c, address: 10.0.0.3, state: drain }")));
  EXPECT_THAT(Live("plan " + file).out,
              HasSubstr("\n  ! no backend takes new connections of web then: they are dropped\n"));
}

TEST_F(GuidewayTest, WhoForgetsTheServiceIsHelped) {
  ASSERT_EQ(
      Live("apply " +
           WriteFile(
               "new.yaml",
               ConfigText(
                   ServiceText("web", 1, kAbc) +
                   ServiceText("dns", 2,
                               "{ name: a1, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }"))))
          .exit_status,
      0);
  struct {
    const char* arguments;
    const char* says;
  } rows[] = {
      {"drain a1", "guideway: \"a1\" is not SERVICE/BACKEND; did you mean dns/a1? See `guideway"},
      {"undrain web", "; service web has web/a, web/b, web/c; see `guideway undrain --help`"},
      {"weight b 1", "; there are web/b, dns/b; see `guideway weight --help`"},
      {"drain nobody", "\"nobody\" is not SERVICE/BACKEND; see `guideway drain --help`"},
  };
  for (const auto& row : rows) {
    const Result result = Live(row.arguments);
    EXPECT_EQ(result.exit_status, 2) << row.arguments;
    EXPECT_THAT(result.err, HasSubstr(row.says));
  }
}

TEST_F(GuidewayTest, AsJsonADrainSaysWhatItSaysAsText) {
  daemon_.Do([&] { daemon_.dataplane().by_backend[0] = {.active_flows = 12, .closing_flows = 2}; });
  const Result result = Live("drain -o json web/a");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, IsEmpty());
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("\"closing_flows\": \"2\""), HasSubstr("\"state\": \"drain\""),
                    HasSubstr("\"changed\": true"), ContainsRegex("\"share_before\": 0[.][45]"),
                    ContainsRegex("\"name\": \"b\",\n +\"region\": \"\",\n +\"share\": 1")));
  EXPECT_THAT(Live("get backends -o json").out, Not(HasSubstr("\"by_hand\"")));
}

TEST_F(GuidewayTest, GetFlows) {
  daemon_.Do([&] {
    auto& flows = daemon_.dataplane().flows[0];
    for (uint64_t place = 0; place < 1000; ++place) {
      flows[place] = {.backend = place % 10 == 0 ? 1u : 0u,
                      .state = FlowState::kTcpEstablished,
                      .unconfirmed = place >= 990,
                      .age_ms = place < 3 ? 20000u : 250u};
    }
    flows[1001] = {.backend = 77};
  });
  const Result table = Live("get flows");
  EXPECT_EQ(table.exit_status, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("STATE        FLOWS  UNCONFIRMED  <1s  <10s  <1m  <5m  <15m"));
  EXPECT_THAT(table.out, HasSubstr("web      a        established    900            9  898     0 "
                                   "   2    0     0      0\n"));
  EXPECT_THAT(table.out, HasSubstr("\n1001 flows, 1 of them of backends that have left"));
  EXPECT_THAT(Live("get flows -o json --backend web/b").out, HasSubstr("\"flows\": \"100\""));
  EXPECT_THAT(Live("get flows --service web").out, HasSubstr("\n1000 flows\n"));

  const Result entries = Live("get flows --entries -o json");
  EXPECT_EQ(entries.exit_status, 0) << entries.err;
  EXPECT_EQ(std::count(entries.out.begin(), entries.out.end(), '\n'), 1001);
  EXPECT_THAT(entries.out,
              StartsWith("{\"core\": 1, \"service\": \"web\", \"backend\": \"b\", \"state\": "
                         "\"established\", \"unconfirmed\": false, \"age_seconds\": 20.000, "
                         "\"timed_out\": false}\n"));
  EXPECT_THAT(Live("get flows --entries --backend web/b -o yaml").out,
              StartsWith("- {\"core\": 1, "));
  EXPECT_THAT(Live("get flows --entries").out,
              AllOf(StartsWith("an entry has no client address, only a hash; --flow PACKET finds a "
                               "client's\n"
                               "CORE  STATE        CONFIRMED  TIMED OUT        AGE  "
                               "SERVICE/BACKEND\n"),
                    HasSubstr("   1  established  yes        no              0.2s  web/a\n"),
                    HasSubstr("   1  established  no         no              0.2s  web/a\n"),
                    HasSubstr("(removed)\n")));
  EXPECT_THAT(Live("get flows --entries --backend web/c").out,
              EndsWith("\nCORE  STATE        CONFIRMED  "
                       "TIMED OUT        AGE  SERVICE/BACKEND\n"));

  Result wrong = Live("get flows --backend web/x");
  EXPECT_EQ(wrong.exit_status, 2);
  EXPECT_EQ(wrong.err,
            "guideway: service web has no backend \"x\"; it has a, b, c; see `guideway get "
            "--help`\n");
  wrong = Live("get flows --entries --service wb");
  EXPECT_EQ(wrong.exit_status, 2);
  EXPECT_EQ(wrong.out, "");
  EXPECT_THAT(wrong.err, HasSubstr("there is no service \"wb\"; there are web; did you mean web? "
                                   "See `guideway get --help`"));
  EXPECT_EQ(Live("get flows --backend web").exit_status, 2);
  EXPECT_EQ(Live("get flows --service web -o json").exit_status, 0);
  EXPECT_EQ(Live("get services --entries").exit_status, 2);
}

// FakeDataplane says of a packet what the test has it say.
TEST_F(GuidewayTest, LooksAtOneFlow) {
  const std::string packet = "'tcp [2001:db8::7]:40000 > [2001:db8::10]:80 syn'";
  daemon_.Do([&] {
    daemon_.dataplane().explain = [](const Snapshot&, const std::string& text) {
      Explanation explanation;
      explanation.packet = text;
      explanation.verdict = "forward";
      explanation.service = "web";
      explanation.backend = "a";
      explanation.flow = "hit";
      explanation.steps = {"one step", "another"};
      explanation.headers = {"IPv4"};
      if (text.find("40000") != std::string::npos) {
        explanation.known = {{4, {.backend = 0, .unconfirmed = false, .age_ms = 1500}, false}};
      }
      return explanation;
    };
  });
  const Result found = Live("get flows --flow " + packet);
  EXPECT_EQ(found.exit_status, 0) << found.err;
  EXPECT_EQ(found.out,
            "tcp [2001:db8::7]:40000 > [2001:db8::10]:80 syn\n"
            "  worker on core 4: web/a, handshake, last packet 1.5s ago\n");
  EXPECT_THAT(Live("-o json get flows --flow " + packet).out, HasSubstr("\"found\": true"));
  const Result none = Live("get flows --flow 'udp 192.0.2.1:1 > 198.51.100.1:53'");
  EXPECT_EQ(none.exit_status, 1);
  EXPECT_THAT(none.out, HasSubstr("no flow table has this connection"));
  EXPECT_EQ(Live("get flows --flow nonsense").exit_status, 2);
  EXPECT_EQ(Live("get flows --entries --flow " + packet).exit_status, 2);

  const Result explained = Live("explain -o json " + packet);
  EXPECT_EQ(explained.exit_status, 0) << explained.err;
  EXPECT_EQ(explained.out,
            "{\n \"verdict\": \"forward\",\n \"reason\": null,\n \"service\": \"web\",\n "
            "\"backend\": \"a\",\n \"flow\": \"hit\",\n \"slot\": null,\n \"home\": null,\n "
            "\"steps\": [\"one step\", \"another\"],\n \"headers\": [\"IPv4\"]\n}\n");
  EXPECT_THAT(Live("explain " + packet).out, HasSubstr("  another\nit leaves as:\n  IPv4\n"));
  EXPECT_EQ(Live("explain nonsense").exit_status, 2);
}

TEST_F(GuidewayTest, ExplainSaysWhyAHomeIsNotUsed) {
  daemon_.Do([&] {
    daemon_.dataplane().explain = [](const Snapshot&, const std::string& text) {
      Explanation explanation;
      explanation.packet = text;
      explanation.service = "web";
      explanation.home = "a";
      explanation.steps = {"one", "whose home, a, takes no new connections", "another"};
      explanation.home_step = 1;
      return explanation;
    };
  });
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  EXPECT_THAT(Live("explain 'tcp 192.0.2.1:1 > 198.51.100.1:80'").out,
              ContainsRegex("\n  whose home, a, takes no new connections\n  a is drained by hand "
                            "\\([a-z0-9]+, 20..-..-.. ..:..:.. UTC\\)\n  another\n"));
}

// The flow table says who is closing.
TEST_F(GuidewayTest, WhatIsNoPacketIsToldTheForms) {
  const struct {
    const char* packet;
    const char* says;
  } rows[] = {
      {"tcp 192.0.2.1:70000 > 198.51.100.1:80", "has the port \"70000\"; allowed is 1 to 65535"},
      {"tcp 2001:db8::7:1 > 198.51.100.1:80", "has no brackets, but several colons"},
      {"tcp 192.0.2.1:1 198.51.100.1:80", "there is no \">\""},
      {"sctp 192.0.2.1:1 > 198.51.100.1:80",
       "the first word, the protocol, is \"sctp\"; allowed are tcp, udp"},
      {"tcp 192.0.2.1:1 > 198.51.100.1:80 rst", "there is \"rst\"; allowed is syn"},
      {"", "allowed is, for example"},
  };
  for (const auto& row : rows) {
    for (const char* call : {"explain", "explain --config /nowhere", "get flows --flow"}) {
      const Result result = Live(absl::StrCat(call, " '", row.packet, "'"));
      EXPECT_EQ(result.exit_status, 2) << row.packet;
      EXPECT_THAT(result.err, HasSubstr(row.says)) << row.packet;
      EXPECT_THAT(result.err, HasSubstr("\n  'icmp 203.0.113.7 > 198.51.100.10' ")) << row.packet;
    }
  }
}

TEST_F(GuidewayTest, AgesThatNothingHas) {
  const Result result = Live("get flows --older-than 10m --younger-than 5m");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("nothing is older than 10m and younger than 5m: the first must "
                                    "be the shorter time; see `guideway get --help`"));
  EXPECT_EQ(Live("get flows --older-than 5m --younger-than 10m").exit_status, 0);
}

TEST_F(GuidewayTest, ADrainCountsWhatIsOpen) {
  daemon_.Do([&] {
    daemon_.dataplane().by_backend[0] = {.active_flows = 19, .closing_flows = 2};
    daemon_.dataplane().by_backend[1] = {.active_flows = 42, .closing_flows = 42};
  });
  EXPECT_THAT(Live("get backends").out, AllOf(HasSubstr("  OPEN  CLOSING\n"),
                                              ContainsRegex("\nweb      a .*    17        2\n"),
                                              ContainsRegex("\nweb      b .*     0       42\n")));
  EXPECT_THAT(Live("get services").out, ContainsRegex("\nweb .*    17\n"));
  EXPECT_THAT(Live("top --count 1").out,
              AllOf(HasSubstr("  open 17\n"), ContainsRegex("\nweb      a .* 17\n")));
  EXPECT_THAT(Live("drain web/a").out,
              HasSubstr("; 17 open connections stay until done; 2 are closing\nwhat is open "
                        "lives in the flow table: a restart of guidewayd before it is done cuts "
                        "it\n"));
  EXPECT_THAT(Live("drain web/b").out, AllOf(HasSubstr("; no connection is open; 42 are closing\n"),
                                             Not(HasSubstr("restart"))));
}

TEST_F(GuidewayTest, APlanSaysWhatThisHostCannotDo) {
  const std::string file = WriteFile(
      "cores.yaml", ConfigText(ServiceText("web", 1, kAbc)) + "dataplane: { workers: [99] }\n");
  Result result = Live("plan " + file);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.out, HasSubstr("takes a restart: dataplane.workers cannot change"));
  EXPECT_THAT(result.out, Not(HasSubstr("would fail")));
  daemon_.Do([&] { daemon_.host() = absl::InvalidArgumentError("cores.yaml:9:25: no such core"); });
  result = Live("plan " + file);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.out, HasSubstr("\nand would fail after one: cores.yaml:9:25: no such core\n"));
  result = Live("apply " + file);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, AllOf(StartsWith("cores.yaml:9:25: no such core\n"),
                                HasSubstr("and a restart with it would fail\n")));
}

TEST_F(GuidewayTest, CheckTellsWhatThisVersionDoesNotDoYet) {
  const std::string text = KernelRoutingText(ServiceText("web", 1, kAbc));
  const Result result = Run("check " + WriteFile("kernel.yaml", text));
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.err, AllOf(StartsWith("warning: "), HasSubstr("routing: this version")));
}

TEST_F(GuidewayTest, WithoutADaemonItSaysWhatToTry) {
  const Result missing = Run("status --socket /nowhere/guideway.sock");
  EXPECT_EQ(missing.exit_status, 1);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("/nowhere/guideway.sock"), HasSubstr("--socket")));
  EXPECT_THAT(missing.out, IsEmpty());
  // A file that is no socket.
  const Result refused = Run("status --socket " + WriteFile("plain", ""));
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.err, HasSubstr("/plain is a file, not a control socket"));
  EXPECT_THAT(Run("status --socket /").err, HasSubstr("/ is a directory, not a control socket"));
}

// Whether all of it has come, as its Content-Length has it.
bool IsWhole(absl::string_view request) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(request, absl::MaxSplits("\r\n\r\n", 1));
  const std::vector<absl::string_view> length = absl::StrSplit(parts.first, "Content-Length: ");
  size_t size = 0;
  return absl::StrContains(request, "\r\n\r\n") && length.size() == 2 &&
         absl::SimpleAtoi(length[1].substr(0, length[1].find('\r')), &size) &&
         parts.second.size() >= size;
}

// Who answers so many calls, each on a connection of its own, with the same text. Nobody calls once
// `listening` is shut down.
void AnswerCalls(int listening, int calls, const std::string& answer) {
  for (int i = 0; i < calls; ++i) {
    const int fd = accept(listening, nullptr, nullptr);
    ASSERT_GE(fd, 0) << "call " << i << " of " << calls << " did not come";
    std::string request;
    char buffer[4096];
    while (!IsWhole(request)) {
      const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      request.append(buffer, static_cast<size_t>(n));
    }
    EXPECT_EQ(send(fd, answer.data(), answer.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(answer.size()));
    close(fd);
  }
}

std::string Answer(const char* status, const std::string& body) {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
}

// What a call comes to while `answer_calls` answers it.
Result RunAgainst(const std::string& directory, const std::string& call,
                  const std::function<void(int listening)>& answer_calls) {
  const std::string path = directory + "/fake.sock";
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  std::memcpy(address.sun_path, path.data(), path.size());
  const int listening = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(bind(listening, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(listening, 8), 0);
  std::thread answering([&] { answer_calls(listening); });
  Result result = RunGuideway(directory, absl::StrCat("--socket ", path, " ", call));
  shutdown(listening, SHUT_RDWR);
  answering.join();
  close(listening);
  unlink(path.c_str());
  return result;
}

TEST_F(GuidewayTest, ADaemonThatIsBusyIsAskedAgain) {
  const std::string busy = Answer("503 Busy", R"({"error": "too much at once"})");
  const auto run = [&](const std::function<void(int listening)>& answer_calls) {
    return RunAgainst(daemon_.directory(), "history -o json", answer_calls);
  };

  const Result done = run([&](int listening) {
    AnswerCalls(listening, 2, busy);
    AnswerCalls(listening, 1, Answer("200 OK", R"({"revisions": [{"number": 77}]})"));
  });
  EXPECT_EQ(done.exit_status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("77"));

  const Result refused = run([&](int listening) { AnswerCalls(listening, 5, busy); });
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.err, HasSubstr("too much at once"));

  // One that says when is not asked again before.
  const Result later = run([&](int listening) {
    AnswerCalls(listening, 1,
                Answer("503 Busy\r\nRetry-After: 10", R"({"error": "the disk does not answer"})"));
  });
  EXPECT_EQ(later.exit_status, 1);
  EXPECT_THAT(later.err, HasSubstr("the disk does not answer"));

  // Not what was refused for good.
  const Result no = run(
      [&](int listening) { AnswerCalls(listening, 1, Answer("409 No", R"({"error": "no"})")); });
  EXPECT_EQ(no.exit_status, 1);
}

// It is made, so that is what the call says, whatever becomes of the daemon or the backend then.
TEST_F(GuidewayTest, AChangeByHandIsToldThoughWhatCameOfItIsNot) {
  constexpr char kBackend[] =
      R"({"service": "web", "name": "a", "weight": 100, "share": 0.5, "region": "eu"})";
  const std::string list = Answer("200 OK", absl::StrCat(R"({"backends": [)", kBackend, "]}"));
  const std::string done =
      Answer("200 OK", R"({"changed": true, "warnings": ["it is not kept on disk"]})");
  const std::string busy = Answer("503 Busy\r\nRetry-After: 10", R"({"error": "it stops"})");
  // The last answer is to what the call asks once it is done.
  const auto run = [&](const std::string& call, const std::vector<std::string>& then) {
    return RunAgainst(daemon_.directory(), call, [&](int listening) {
      AnswerCalls(listening, 1, list);
      AnswerCalls(listening, 1, done);
      for (const std::string& answer : then) AnswerCalls(listening, 1, answer);
    });
  };
  Result result = run("drain web/a", {busy});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_EQ(result.out, "web/a is drained; what came of it cannot be told: it stops\n");
  EXPECT_EQ(result.err, "warning: it is not kept on disk\n");

  result = run("undrain web/a", {Answer("200 OK", "{}")});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_EQ(result.out,
            "web/a is not drained by hand; what came of it cannot be told: another change has "
            "removed it since\n");
  EXPECT_EQ(result.err, "warning: it is not kept on disk\n");

  // Who stands in for its region is a part of it.
  result = run("weight web/a 7", {list, busy});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_EQ(result.out, "web/a has weight 7; what came of it cannot be told: it stops\n");
  EXPECT_THAT(run("weight web/a file", {list, Answer("200 OK", "{}")}).out,
              StartsWith("web/a has the file's weight; what came of it cannot be told: guidewayd "
                         "does not say who serves region eu\n"));

  result = run("drain web/a -o json", {busy});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(
      result.out,
      AllOf(HasSubstr("\"service\": \"web\""), HasSubstr("\"name\": \"a\""),
            HasSubstr("\"changed\": true"), HasSubstr("\"share_before\": 0.5"),
            ContainsRegex("\"warnings\": \\[\n +\"it is not kept on disk\",\n +\"what came of it "
                          "cannot be told: it stops\"")));
  EXPECT_THAT(result.err, IsEmpty());
}

// A daemon of an earlier version says nothing of who takes new connections: that is not nobody.
TEST_F(GuidewayTest, APlanWithoutSharesSaysNothingOfThem) {
  const std::string file = WriteFile("new.yaml", ConfigText(ServiceText("web", 1, kAbc)));
  const auto plan = [&](const char* more) {
    const Result result = RunAgainst(daemon_.directory(), "apply " + file, [&](int listening) {
      AnswerCalls(
          listening, 1,
          Answer(
              "200 OK",
              absl::StrCat(
                  R"({"revision": 2, "plan": {"changes": true, "services": [{"name": "web", )",
                  R"("change": "changed", "backends": [{"name": "a", "change": "removed"}], )",
                  R"("moved": 0.5, "moved_necessary": 0.5, "moved_at_most": 0.5)", more, "}]}}")));
    });
    EXPECT_EQ(result.exit_status, 0) << result.err;
    return result.out;
  };
  EXPECT_THAT(plan(""), EndsWith("service web changed\n  backend a removed\n"
                                 "  50.0% of new connections move; 50.0% have to\n"));
  EXPECT_THAT(plan(R"(, "shares": [{"name": "b", "share": 1}])"),
              EndsWith("\n  new connections of web now go to b 100%\n"));
  EXPECT_THAT(plan(R"(, "new_connections_dropped": true)"),
              EndsWith("\n  ! no backend takes new connections of web: they are dropped\n"));
}

TEST_F(GuidewayTest, ColourAndWidthAreTheTerminals) {
  EXPECT_THAT(OnTerminal("", 200, "get backends"),
              AllOf(HasSubstr("\033[32mup"), HasSubstr("BYTES")));
  EXPECT_THAT(OnTerminal("NO_COLOR=1", 200, "get backends"), Not(HasSubstr("\033")));
  EXPECT_THAT(OnTerminal("NO_COLOR=", 200, "get backends"), HasSubstr("\033"));
  EXPECT_THAT(OnTerminal("TERM=dumb", 200, "get backends"), Not(HasSubstr("\033")));
  for (const char* table : {"get backends", "get services", "table --backends 10 --size 101",
                            "--help", "check --help"}) {
    EXPECT_THAT(Longest(OnTerminal("NO_COLOR=1", 120, table)), Le(120u)) << table;
  }
  for (const char* table : {"get backends", "get services", "get workers", "get interfaces",
                            "get flows", "get flows --entries", "history"}) {
    for (const int width : {80, 60, 20}) {
      EXPECT_THAT(Longest(OnTerminal("NO_COLOR=1", width, table)), Le(width)) << table;
    }
  }
}

TEST_F(GuidewayTest, WhatMattersMostStaysOnASmallTerminal) {
  ASSERT_EQ(Live("apply " + WriteFile("a-configuration-with-a-long-name.yaml",
                                      ConfigText(ServiceText("web", 1, kAbc))))
                .exit_status,
            0);
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  const std::string history = OnTerminal("NO_COLOR=1", 60, "history");
  EXPECT_THAT(history, testing::ContainsRegex("\n +3  20..-..-.. ..:..:..  .*  drain web/a"));
  EXPECT_THAT(OnTerminal("NO_COLOR=1", 70, "get backends"),
              AllOf(HasSubstr("  WEIGHT  SHARE  OPEN\r\n"), Not(HasSubstr("ADDRESS")),
                    HasSubstr("… 5 columns more when wider\r\n")));
  const std::string workers = OnTerminal("NO_COLOR=1", 60, "get workers");
  EXPECT_THAT(workers, HasSubstr("FILL  NOT STORED"));
}

TEST_F(GuidewayTest, StatusAndGet) {
  daemon_.Do([&] {
    daemon_.dataplane().by_service[0] = {.packets = 1234567, .bytes = 79012288};
    daemon_.dataplane().worker_status[0].packets.received = 12;
    daemon_.dataplane().worker_status[0].packets.verdicts = {10, 0, 0, 2};
    daemon_.dataplane().worker_status[0].packets.reasons[0] = 2;
  });
  Result result = Live("status");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("12 received = 10 forwarded + 0 replied + 0 punted + 2 dropped "
                                    "(2 malformed)"));
  EXPECT_THAT(result.out, HasSubstr("net_null0"));
  EXPECT_THAT(result.out, Not(HasSubstr("\033"))) << "no colour into a file";
  EXPECT_THAT(Live("status -o json").out, HasSubstr("\"received\": \"12\""));
  EXPECT_THAT(Live("status -o yaml").out, HasSubstr("\nrevision: 1\n"));

  result = Live("get services");
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.out, StartsWith("SERVICE  VIPS"));
  EXPECT_THAT(result.out, AllOf(HasSubstr("198.51.100.1"), HasSubstr("2/3"), HasSubstr("1.23M"),
                                HasSubstr("79.0 MB")));
  EXPECT_THAT(Live("get services -o json").out, HasSubstr("\"packets\": \"1234567\""));

  result = Live("get backends");
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("10.0.0.3  drain"), HasSubstr("0%")));
}

TEST_F(GuidewayTest, StatusSaysWhatIsWrongAsTopDoes) {
  EXPECT_THAT(Live("status").out, Not(HasSubstr("\n! ")));
  for (const char* backend : {"web/a", "web/b"}) {
    ASSERT_EQ(Live(absl::StrCat("drain ", backend)).exit_status, 0);
  }
  daemon_.Do([&] { daemon_.dataplane().interface_status[0].link_up = false; });
  constexpr char kSays[] =
      "\n! no backend takes new connections of 1 service: web\n! interface uplink: no link\n";
  EXPECT_THAT(Live("status").out,
              AllOf(HasSubstr(kSays), StartsWith("guidewayd test  serving 0 of 1 service  pid ")));
  EXPECT_THAT(Live("top --interval 100ms --count 1").out, HasSubstr(kSays));
}

TEST_F(GuidewayTest, StatusSaysWhatWasRefusedWhen) {
  EXPECT_THAT(Live("status").out, Not(HasSubstr("refused")));
  const std::string bad = WriteFile("bad.yaml", "services: 3\nbogus: 1\n");
  ASSERT_EQ(Live("apply " + bad).exit_status, 1);
  const std::string text =
      absl::StrCat(" apply of ", bad, " by [a-z0-9]+ was refused [0-9.]+s ago");
  const std::string at = ", at 20..-..-.. ..:..:.. UTC:";
  EXPECT_THAT(Live("status").out, ContainsRegex(absl::StrCat("\n!", text, at, "\n    ", bad,
                                                             ":1:.*\n    ", bad, ":2:")));
  EXPECT_THAT(Live("top --interval 100ms --count 1").out,
              ContainsRegex(absl::StrCat("\n!", text, ": ", bad, ":1:.* \\(and 2 more\\)\n")));
  // What was done since by hand is in force: this is the past.
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  EXPECT_THAT(Live("status").out, ContainsRegex(absl::StrCat("\n-", text)));
  EXPECT_THAT(Live("top --interval 100ms --count 1").out, ContainsRegex(absl::StrCat("\n-", text)));
  // Whoever moves too much hides no error, and without one is told as well.
  const std::string other =
      WriteFile("other.yaml", ConfigText(ServiceText("web", 1, "{ name: z, address: 10.0.0.9 }")));
  ASSERT_EQ(Live("apply --max-moved 1% " + other).exit_status, 1);
  EXPECT_THAT(Live("status").out, ContainsRegex(absl::StrCat("\n-", text)));
  EXPECT_THAT(Live("status -o json").out, HasSubstr("\"config_error\": \"" + bad + ":1:"));
  ASSERT_EQ(Live("apply " + other).exit_status, 0);
  EXPECT_THAT(Live("status").out, Not(HasSubstr("was refused")));
  ASSERT_EQ(Live("rollback --max-moved 1%").exit_status, 1);
  EXPECT_THAT(Live("status").out, ContainsRegex("\n! rollback to 2 by [a-z0-9]+ was refused "));
}

TEST_F(GuidewayTest, StatusSaysWhoDidWhatByHand) {
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  ASSERT_EQ(Live("weight web/a 7").exit_status, 0);
  const std::string by = ", by [a-z0-9]+ at 20..-..-.. ..:..:.. UTC";
  EXPECT_THAT(Live("status").out,
              ContainsRegex(absl::StrCat("\nby hand: drain web/a", by,
                                         ", weight web/a 7 \\(file: 100\\)", by, "\n")));
}

// The history is no part of the configuration: it has a line of its own.
TEST_F(GuidewayTest, StatusSaysWhyTheHistoryIsNotKept) {
  const std::string state = daemon_.directory() + "/state";
  std::filesystem::remove_all(state);
  std::ofstream(state) << "in the way";
  const Result drained = Live("drain web/a");
  EXPECT_THAT(drained.err, HasSubstr("revision 2 is in force and not kept"));
  const std::string why = absl::StrCat(": Not a directory (cannot make ", state, ")\n");
  for (const char* call : {"status", "top --interval 100ms --count 1"}) {
    const Result result = Live(call);
    EXPECT_THAT(result.out, ContainsRegex(absl::StrCat("\n! history: not kept in ", state,
                                                       "/.* since 20..-..-.. ..:..:.. UTC: Not ")));
    EXPECT_THAT(result.out, HasSubstr(why)) << call;
    EXPECT_THAT(result.out, Not(HasSubstr("warning"))) << call;
  }
}

TEST_F(GuidewayTest, GetPartsOfStatus) {
  const Result workers = Live("get workers");
  EXPECT_EQ(workers.exit_status, 0);
  EXPECT_THAT(workers.out, AllOf(StartsWith("CORE "), HasSubstr("NOT STORED")));
  EXPECT_THAT(Live("get workers -o json").out, HasSubstr("\"flow_capacity\": \"1024\""));
  EXPECT_THAT(Live("get interfaces").out, HasSubstr("net_null0"));
  EXPECT_THAT(Live("get interfaces -o yaml").out, StartsWith("interfaces:\n"));
  EXPECT_THAT(Live("get events").out, HasSubstr("revision 1 in force"));
  EXPECT_THAT(Live("get events -o json").out, StartsWith("{\n \"events\": ["));
}

TEST_F(GuidewayTest, WatchedIntoAPipe) {
  const Result tables = Live("get services --watch --interval 100ms --count 2");
  EXPECT_EQ(tables.exit_status, 0) << tables.err;
  EXPECT_THAT(tables.out, AllOf(StartsWith("SERVICE  VIPS"), HasSubstr("\n\nSERVICE  VIPS")));
  EXPECT_THAT(tables.out, Not(HasSubstr("\033")));
  EXPECT_THAT(Live("get services --watch --interval 100ms --count 2 -o yaml").out,
              HasSubstr("\n---\nservices:\n"));
  // What cannot be shown once is not tried again.
  EXPECT_EQ(Run("status --watch --socket /nowhere").exit_status, 1);
  EXPECT_EQ(Live("get backend --watch").exit_status, 2);
}

TEST_F(GuidewayTest, TopIntoAPipe) {
  daemon_.Do([&] { daemon_.dataplane().worker_status[0].flows = 900; });
  const Result blocks = Live("top --interval 100ms --count 2");
  EXPECT_EQ(blocks.exit_status, 0) << blocks.err;
  EXPECT_THAT(blocks.out, AllOf(StartsWith("guidewayd test  serving"),
                                HasSubstr("! the worker on core 1 stands still\n"),
                                HasSubstr("! the flow table of core 1 is 87.9% full\n"),
                                Not(HasSubstr("counted from now on"))))
      << "blocks of an interval";
  const Result json = Live("top --interval 100ms --count 2 -o json");
  EXPECT_EQ(std::count(json.out.begin(), json.out.end(), '\n'), 2);
  EXPECT_THAT(json.out, AllOf(StartsWith("{\"uptime_seconds\":"),
                              HasSubstr("\"bits_per_second\":0"), HasSubstr("\"malformed\":0")));
  EXPECT_EQ(Run("top --socket /nowhere").exit_status, 1);
}

TEST_F(GuidewayTest, DrainAndUndrain) {
  daemon_.Do([&] { daemon_.dataplane().by_backend[0].active_flows = 12; });
  Result result = Live("drain web/a");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("web/a is drained"));
  EXPECT_THAT(result.out, HasSubstr("12 open connections stay"));
  EXPECT_THAT(result.out, HasSubstr("now go to b 100%"));
  EXPECT_THAT(Live("drain web/a").out, StartsWith("web/a was drained already: it gets no new "
                                                  "connections; 12 open connections stay"));
  EXPECT_THAT(Live("get backends").out, HasSubstr("drain (by hand)"));
  EXPECT_THAT(Live("drain web/b").out, AllOf(HasSubstr("; no connection is open\n"),
                                             StartsWith("! no backend takes new connections")));
  EXPECT_THAT(Live("undrain web/a").out, HasSubstr("web/a gets 100% of web's new connections"));
  EXPECT_THAT(Live("undrain web/a").out, StartsWith("web/a was not drained by hand; it gets 100%"));
  EXPECT_THAT(Live("undrain web/a -o json").out, HasSubstr("\"state\": \"up\""));

  result = Live("drain web/x");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_EQ(result.err,
            "guideway: service web has no backend \"x\"; it has a, b, c; see `guideway drain "
            "--help`\n");
  result = Live("undrain web/c");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("state: drain"));
  // By both.
  ASSERT_EQ(Live("drain web/c").exit_status, 0);
  EXPECT_THAT(Live("status").out, ContainsRegex("\nby hand: drain web/c \\(file: drain\\), by "
                                                "[a-z0-9]+ at 20..-..-.. ..:..:.. UTC\n"));
  EXPECT_THAT(Live("undrain web/c").out,
              StartsWith("web/c is not drained by hand any more, but it is by the configuration "
                         "(state: drain), and gets no new connections\n"));
}

TEST_F(GuidewayTest, ADrainedRegionNamesTheOneThatStandsIn) {
  const auto geo = [](const char* fallback) {
    return ConfigText(
        ServiceText("cdn", 1,
                    "{ name: e, address: 10.0.0.1, region: eu }, "
                    "{ name: u, address: 10.0.0.2, region: us }, "
                    "{ name: v, address: 10.0.0.3, region: us }",
                    absl::StrCat("scheduler: geographic, default_region: us, regions: [{ name: eu, "
                                 "prefixes: [192.0.2.0/25], fallback: [",
                                 fallback, "] }, { name: us, prefixes: [192.0.2.128/25] }]")) +
        ServiceText("web", 2, "{ name: a, address: 10.0.0.1 }"));
  };
  EXPECT_THAT(Live("get backends").out, Not(HasSubstr("REGION"))) << "nobody has one";
  ASSERT_EQ(Live("apply " + WriteFile("geo.yaml", geo("us"))).exit_status, 0);
  EXPECT_THAT(Live("get backends").out, AllOf(HasSubstr("SERVICE  BACKEND  REGION  ADDRESS"),
                                              HasSubstr("\ncdn      e        eu      10.0.0.1"),
                                              HasSubstr("\nweb      a        -       10.0.0.1")));
  // As JSON: whose backends take eu's.
  const auto served_by = [&](const char* call) {
    const std::string out = Live(absl::StrCat(call, " -o json")).out;
    std::smatch match;
    const bool found = std::regex_search(out, match, std::regex("\"served_by\": \"(.*)\""));
    return found ? match[1].str() : out;
  };
  EXPECT_EQ(served_by("undrain cdn/e"), "eu");
  Result result = Live("drain cdn/e");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(served_by("drain cdn/e"), "us");
  EXPECT_EQ(served_by("undrain web/a"), "") << "it has no region";
  EXPECT_THAT(result.out, HasSubstr("\nno backend of region eu of cdn takes new connections now: "
                                    "they go to region us, to u 50.0%, v 50.0%\n"));
  EXPECT_THAT(Live("get services -o json").out,
              ContainsRegex("\"name\": \"eu\",\n +\"served_by\": \"us\"\n"));
  EXPECT_THAT(Live("undrain cdn/e").out,
              HasSubstr("new connections of region eu of cdn now go to e 100%\n"));
  ASSERT_EQ(Live("apply " + WriteFile("geo.yaml", geo(""))).exit_status, 0);
  EXPECT_THAT(
      Live("drain cdn/e").out,
      StartsWith("! no backend takes new connections of region eu of cdn: they are dropped; "
                 "`guideway undrain cdn/e` undoes it\n"));
  EXPECT_EQ(served_by("drain cdn/e"), "") << "nobody";
  EXPECT_THAT(Live("get services -o json").out,
              ContainsRegex("\"name\": \"eu\",\n +\"served_by\": \"\"\n"));
}

TEST_F(GuidewayTest, ExplainNamesTheRegionThatStandsIn) {
  const std::string file = WriteFile(
      "geo.yaml",
      ConfigText(ServiceText(
          "cdn", 10,
          "{ name: e, address: 10.0.0.1, region: eu }, { name: u, address: 10.0.0.2, region: us }",
          "scheduler: geographic, default_region: us, regions: [{ name: eu, prefixes: "
          "[192.0.2.0/25], fallback: [us] }, { name: us, prefixes: [192.0.2.128/25] }]")));
  const auto explain = [&](const std::string& down) {
    return Run(absl::StrCat("explain --config ", file, down,
                            " 'tcp 192.0.2.7:1024 > 198.51.100.10:80 syn'"))
        .out;
  };
  EXPECT_THAT(explain(""), HasSubstr("\n  192.0.2.7 is served by region eu\n"));
  EXPECT_THAT(explain(" --down cdn/e"),
              AllOf(HasSubstr("\n  192.0.2.7 is of region eu, none of whose backends takes new "
                              "connections: region us stands in\n"),
                    HasSubstr("verdict: forward, cdn/u")));
  EXPECT_THAT(explain(" --down cdn/e --down cdn/u"),
              AllOf(HasSubstr("none of whose backends takes new connections: nobody stands in\n"),
                    HasSubstr("verdict: drop (no_backend)")));
}

TEST_F(GuidewayTest, Weight) {
  Result result = Live("weight web/a 300");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("web/a has weight 300 by hand (file: 100)\n"
                                     "new connections of web now go to a 7"));
  EXPECT_THAT(Live("get backends").out, HasSubstr("300 (file: 100)"));
  EXPECT_THAT(Live("status").out, HasSubstr("by hand: weight web/a 300 (file: 100), by "));
  EXPECT_THAT(Live("weight web/a 0 -o json").out, HasSubstr("\"weight\": 0,"));
  result = Live("weight web/a file");
  EXPECT_THAT(result.out, StartsWith("web/a has weight 100, the file's\n"));
  EXPECT_THAT(Live("weight web/a 100").out,
              StartsWith("web/a has weight 100, the file's: it had so before, nothing changed\n"));
  EXPECT_THAT(Live("weight web/c 30").out,
              AllOf(StartsWith("web/c has weight 30 by hand (file: 100)\nit is drained: its "
                               "weight counts in the lookup table, if one chooses, all the same, "
                               "and some of the others' new "
                               "connections move\n"),
                    HasSubstr("new connections of web now go to ")));
  EXPECT_EQ(Live("weight web/c file").exit_status, 0);
  EXPECT_THAT(Live("status").out, Not(HasSubstr("by hand:")));

  EXPECT_EQ(Live("weight web/x 1").exit_status, 2);
  for (const char* wrong : {"weight web/a 65536", "weight web/a -- -1", "weight web/a -1",
                            "weight web/a -5.5", "weight web/a x"}) {
    result = Live(wrong);
    EXPECT_EQ(result.exit_status, 2) << wrong;
    EXPECT_THAT(result.err, HasSubstr("is no weight; allowed: 0 to 65535, or `file`"));
  }
  EXPECT_EQ(Live("weight web 1").exit_status, 2);
  EXPECT_EQ(Live("weight web/a").exit_status, 2);
}

TEST_F(GuidewayTest, HistoryAndRollback) {
  const std::string text = ConfigText(ServiceText("other", 1, "{ name: z, address: 10.0.0.9 }"));
  const std::string file = WriteFile("new.yaml", text);
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  ASSERT_EQ(Live("apply " + file).exit_status, 0);

  Result result = Live("history");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("REVISION  TIME "));
  for (const char* part : {"\n       1  20", "  start  start ", "  drain web/a ", "  apply ",
                           "/new.yaml       -\n", "  drain web/a\n"}) {
    EXPECT_THAT(result.out, HasSubstr(part));
  }
  EXPECT_THAT(Live("history -o json").out, StartsWith("{\n \"revisions\": ["));
  EXPECT_EQ(Live("history 3").out, text) << "as it was";
  EXPECT_THAT(Live("history 3 -o json").out, HasSubstr("\"how\": \"apply\""));

  result = Live("rollback");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(result.out,
            "revision 2 is in force again, configuration and overrides, as revision 4\n"
            "by hand again: drain web/a\n"
            "service other removed\n  backend z removed\n  100% of its new connections are not its "
            "own any more: other services have its VIPs, take what comes to their ports and drop "
            "the rest\n"
            "service web added\n  backend a added\n  backend b added\n  backend c added\n");
  EXPECT_THAT(Live("get backends").out, HasSubstr("drain (by hand)"));
  EXPECT_THAT(Live("status").out, HasSubstr("\nrevision  4, rollback to 2 by "));
  EXPECT_THAT(Live("rollback 3").out, HasSubstr("revision 3 is in force again"));

  for (const char* call : {"rollback 9", "history 9"}) {
    result = Live(call);
    EXPECT_EQ(result.exit_status, 2) << call;
    EXPECT_THAT(result.err, HasSubstr("there is no revision 9; there are 1 to 5; see"));
  }
  for (const char* wrong : {"history x", "rollback 0", "rollback 1 2", "history -- -1"}) {
    EXPECT_EQ(Live(wrong).exit_status, 2) << wrong;
  }
}

TEST_F(GuidewayTest, ApplyCanDiscardWhatWasDoneByHand) {
  const std::string file = WriteFile("new.yaml", ConfigText(ServiceText("web", 1, kAbc)));
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  ASSERT_EQ(Live("apply " + file).exit_status, 0);
  EXPECT_THAT(Live("get backends").out, HasSubstr("by hand"));
  EXPECT_THAT(Live("plan " + file).out, Not(HasSubstr("by hand")));
  Result result = Live("plan --discard-overrides " + file);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("no longer by hand: drain web/a\n"));
  EXPECT_THAT(Live("get backends").out, HasSubstr("by hand")) << "nothing has changed";
  EXPECT_EQ(Run(absl::StrCat("plan --discard-overrides ", file, " ", file)).exit_status, 2);
  result = Live("apply --discard-overrides " + file);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\nno longer by hand: drain web/a\n"));
  EXPECT_THAT(Live("get backends").out, Not(HasSubstr("by hand")));
  EXPECT_EQ(Live("drain --discard-overrides web/a").exit_status, 2);
  EXPECT_EQ(Live("apply --discard-overrides=yes " + file).exit_status, 2);
}

TEST_F(GuidewayTest, WhatTheHistoryNamesDoesNotDependOnWhereItWasAsked) {
  const std::string file = WriteFile("new.yaml", ConfigText(ServiceText("web", 1, kAbc)));
  const std::string relative = std::filesystem::relative(file).string();
  ASSERT_FALSE(absl::StartsWith(relative, "/"));
  ASSERT_EQ(Live("apply " + relative).exit_status, 0);
  EXPECT_THAT(Live("history -o json").out, HasSubstr(absl::StrCat("\"file\": \"", file, "\"")));
}

TEST_F(GuidewayTest, APlanTellsOfADrainThatIsDropped) {
  ASSERT_EQ(Live("drain web/a").exit_status, 0);
  const Result plan = Live("plan " + WriteFile("new.yaml", ConfigText(ServiceText("x", 1, kAbc))));
  EXPECT_THAT(plan.out, HasSubstr("no longer by hand: drain web/a\n"));
  EXPECT_THAT(plan.err, HasSubstr("warning: done by hand and dropped, for the configuration has no "
                                  "such backend: drain web/a\n"));
}

TEST_F(GuidewayTest, Apply) {
  const std::string good = WriteFile("new.yaml", ConfigText(ServiceText("other", 1, kAbc)));
  Result result = Live("apply " + good);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith(good + " is in force as revision 2\nservice web removed\n"));
  EXPECT_THAT(Live("get services").out, HasSubstr("other"));

  const std::string bad = WriteFile("bad.yaml", "services: 3\n");
  result = Live("apply " + bad);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr(bad + ":1:11: "));
  EXPECT_THAT(Live("status").out, HasSubstr("refused"));
  EXPECT_THAT(Live("get services").out, HasSubstr("other"));

  result = Live("apply /nowhere.yaml");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("/nowhere.yaml: No such file"));
  result = Live("apply /dev/zero");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("larger than 64 MiB"));
}

}  // namespace
}  // namespace guideway
