// `guideway` as people call it: the real program as a process, against a daemon's control side in
// this one. GUIDEWAY in the environment names the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/support/api_daemon.h"
#include "tests/support/program.h"

namespace guideway {
namespace {

using testing::AllOf;
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
}

TEST_F(GuidewayTest, AWrongCallIsTwo) {
  struct {
    const char* arguments;
    const char* says;
  } rows[] = {
      {"", "usage:"},
      {"bogus", "there is no verb \"bogus\"; see `guideway --help`"},
      {"chek", "did you mean check? See `guideway --help`"},
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
      {"top --interval 1", "--interval 1 is not a time from 100ms to 24h, such as 2s"},
      {"top --count -1", "--count -1 is not a number from 1 up"},
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

  // The YAML is a configuration again.
  const Result yaml = Run("check -o yaml " + file);
  EXPECT_EQ(yaml.exit_status, 0);
  EXPECT_EQ(Run("check -o yaml " + WriteFile("again.yaml", yaml.out)).out, yaml.out);
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
                               HasSubstr("of new connections move; 50.0% have to\n"),
                               HasSubstr("12 open connections on backends that go away")));
  EXPECT_THAT(Live("plan -o json " + changed).out, HasSubstr("\"open_connections\": \"12\""));
  EXPECT_THAT(Live("get backends").out, HasSubstr("10.0.0.2")) << "still there";
  EXPECT_EQ(Live("plan " + WriteFile("same.yaml", ConfigText(ServiceText("web", 1, kAbc)))).out,
            "nothing changes\n");
  const Result bad = Live("plan " + WriteFile("bad.yaml", "servces: []"));
  EXPECT_EQ(bad.exit_status, 1);
  EXPECT_THAT(bad.err, HasSubstr("bad.yaml:1:1: servces"));
  EXPECT_EQ(Run("plan --socket /nowhere " + changed).exit_status, 1);
}

TEST_F(GuidewayTest, ApplyWithABound) {
  const std::string file =
      WriteFile("new.yaml", ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }")));
  for (const char* wrong : {"2", "-1%", "101%", "nan%", "x%", "%"}) {
    const Result result = Live(absl::StrCat("apply --max-moved=", wrong, " ", file));
    EXPECT_EQ(result.exit_status, 2) << wrong;
    EXPECT_THAT(result.err, HasSubstr("is not a share from 0% to 100%"));
  }
  const Result refused = Live("apply --max-moved 2% " + file);
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.err, HasSubstr("of service web's new connections would move, and no more "
                                     "than 2% may"));
  EXPECT_THAT(Live("get backends").out, HasSubstr("10.0.0.2")) << "nothing has changed";
  const Result applied = Live("apply --max-moved 60% " + file);
  EXPECT_EQ(applied.exit_status, 0) << applied.err;
  EXPECT_THAT(applied.out, StartsWith(file + " is in force as revision 2\n1 service changed; "
                                             "2 backends removed; "));
  EXPECT_THAT(applied.out, HasSubstr("of web's new connections move\n"));
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
                         "\"established\", \"unconfirmed\": false, \"age_seconds\": 20, "
                         "\"timed_out\": false}\n"));
  EXPECT_THAT(Live("get flows --entries --backend web/b -o yaml").out,
              StartsWith("- {\"core\": 1, "));
  EXPECT_THAT(Live("get flows --entries").out,
              AllOf(HasSubstr("   1  established                      0.25s  web/a\n"),
                    HasSubstr("   1  established  unconfirmed         0.25s  web/a\n"),
                    HasSubstr("(removed)\n")));

  Result wrong = Live("get flows --backend web/x");
  EXPECT_EQ(wrong.exit_status, 1);
  EXPECT_EQ(wrong.err, "service web has no backend x; it has a, b, c\n");
  wrong = Live("get flows --entries --service wb");
  EXPECT_EQ(wrong.exit_status, 1);
  EXPECT_THAT(wrong.err, HasSubstr("there is no service wb"));
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
            "  worker on core 4: web/a, handshake, last packet 1.50s ago\n");
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

TEST_F(GuidewayTest, CheckTellsWhatThisVersionCannotDo) {
  const std::string text = UnsupportedConfigText(ServiceText("web", 1, kAbc));
  const Result result = Run("check " + WriteFile("kernel.yaml", text));
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.err, AllOf(StartsWith("unsupported: "), HasSubstr("routing: this version")));
}

TEST_F(GuidewayTest, WithoutADaemonItSaysWhatToTry) {
  const Result missing = Run("status --socket /nowhere/guideway.sock");
  EXPECT_EQ(missing.exit_status, 1);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("/nowhere/guideway.sock"), HasSubstr("--socket")));
  EXPECT_THAT(missing.out, IsEmpty());
  // A file that is no socket.
  const Result refused = Run("status --socket " + WriteFile("plain", ""));
  EXPECT_EQ(refused.exit_status, 1);
  EXPECT_THAT(refused.err, HasSubstr("/plain"));
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
  for (const char* table : {"get backends", "get services"}) {
    for (const int width : {80, 60, 20}) {
      EXPECT_THAT(Longest(OnTerminal("NO_COLOR=1", width, table)), Le(width)) << table;
    }
  }
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
                                HasSubstr("! the flow table of core 1 is 87.9% full\n")));
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
  EXPECT_THAT(Live("get backends").out, HasSubstr("drain (by hand)"));
  EXPECT_THAT(Live("drain web/b").out, HasSubstr("nobody takes new connections of web now"));
  EXPECT_THAT(Live("undrain web/a").out, HasSubstr("web/a gets 100% of web's new connections"));
  EXPECT_THAT(Live("undrain web/a -o json").out, HasSubstr("\"state\": \"up\""));

  result = Live("drain web/x");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(result.err, "service web has no backend \"x\"; it has a, b, c\n");
  result = Live("undrain web/c");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("state: drain"));
}

TEST_F(GuidewayTest, Weight) {
  Result result = Live("weight web/a 300");
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("web/a has weight 300 by hand (file: 100)\n"
                                     "new connections of web now go to a 7"));
  EXPECT_THAT(Live("get backends").out, HasSubstr("300 (file: 100)"));
  EXPECT_THAT(Live("status").out, HasSubstr("by hand: weight web/a 300 (file: 100)\n"));
  EXPECT_THAT(Live("weight web/a 0 -o json").out, HasSubstr("\"weight\": 0,"));
  result = Live("weight web/a file");
  EXPECT_THAT(result.out, StartsWith("web/a has weight 100, the file's\n"));
  EXPECT_THAT(Live("status").out, Not(HasSubstr("by hand:")));

  result = Live("weight web/x 1");
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(result.err, "service web has no backend \"x\"; it has a, b, c\n");
  for (const char* wrong : {"weight web/a 65536", "weight web/a -- -1", "weight web/a x"}) {
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
            "1 service added; 1 service removed\n");
  EXPECT_THAT(Live("get backends").out, HasSubstr("drain (by hand)"));
  EXPECT_THAT(Live("status").out, HasSubstr("\nrevision  4, rollback to 2 by "));
  EXPECT_THAT(Live("rollback 3").out, HasSubstr("revision 3 is in force again"));

  for (const char* call : {"rollback 9", "history 9"}) {
    result = Live(call);
    EXPECT_EQ(result.exit_status, 1) << call;
    EXPECT_EQ(result.err, "there is no revision 9; there are 1 to 5\n");
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
  ASSERT_EQ(Live("apply --discard-overrides " + file).exit_status, 0);
  EXPECT_THAT(Live("get backends").out, Not(HasSubstr("by hand")));
  EXPECT_EQ(Live("drain --discard-overrides web/a").exit_status, 2);
  EXPECT_EQ(Live("apply --discard-overrides=yes " + file).exit_status, 2);
}

TEST_F(GuidewayTest, Apply) {
  const std::string good = WriteFile("new.yaml", ConfigText(ServiceText("other", 1, kAbc)));
  Result result = Live("apply " + good);
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(result.out, good + " is in force as revision 2\n1 service added; 1 service removed\n");
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
