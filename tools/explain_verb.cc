// `guideway explain`: where one packet would go, and why, step by step. The packet goes through the
// packet path itself; the steps say what was decided on the way.
#include <iostream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "control/api/api.pb.h"
#include "dataplane/packet/explain.h"
#include "dataplane/packet/packet_text.h"
#include "tools/api_client.h"
#include "tools/offline.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

constexpr Option kOptions[] = {
    {"config", "FILE", "go by a configuration (- is standard input), not by the daemon"},
    {"down", "SERVICE/BACKEND", "with --config: a backend that is down; all others are up", true},
};

constexpr char kHelp[] =
    "Says where a packet would go, and why, step by step. Asks the running daemon: its\n"
    "configuration, the health of its backends, and its flow tables, so a packet of a connection\n"
    "that is open goes where that one goes. Nothing changes by it: no counter, limit or entry.\n\n"
    "With --config it asks the file, and needs no daemon, no root and no huge pages: the packet "
    "is\n"
    "then the first of its connection, and all backends are up.\n\n"
    "  guideway explain 'tcp 203.0.113.7:40000 > 198.51.100.10:80'\n"
    "  guideway explain --config FILE 'tcp 203.0.113.7:40000 > 198.51.100.10:80 syn'\n"
    "  guideway explain --config FILE 'udp [2001:db8::7]:40000 > [2001:db8:100::10]:53'\n"
    "  guideway explain --config FILE 'icmp 203.0.113.7 > 198.51.100.10'\n\n"
    "Exit status 0: there is an answer, also for a packet that would be dropped; 1: there is no\n"
    "daemon, or the configuration cannot be read or is not valid; 2: not a packet, or a backend\n"
    "that is not there.";

int Wrong(absl::string_view why) { return WrongCall(why, "explain"); }

std::string List(const std::vector<std::string>& texts) {
  return absl::StrCat("[",
                      absl::StrJoin(texts, ", ",
                                    [](std::string* out, const std::string& text) {
                                      absl::StrAppend(out, "\"", text, "\"");
                                    }),
                      "]");
}

void Show(const Call& call, const Explanation& answer) {
  if (call.format != Format::kTable) {
    const bool is_json = call.format == Format::kJson;
    const std::pair<std::string, std::string> fields[] = {
        {"verdict", Quoted(answer.verdict)},
        {"reason", Quoted(answer.reason)},
        {"service", Quoted(answer.service)},
        {"backend", Quoted(answer.backend)},
        {"flow", Quoted(answer.flow)},
        {"slot", answer.slot.has_value() ? absl::StrCat(*answer.slot) : "null"},
        {"home", Quoted(answer.home)},
        {"steps", List(answer.steps)},
        {"headers", List(answer.headers)}};
    std::cout << (is_json ? "{\n" : "")
              << absl::StrJoin(fields, is_json ? ",\n" : "\n",
                               [&](std::string* out, const auto& field) {
                                 absl::StrAppend(out, is_json ? " \"" : "", field.first,
                                                 is_json ? "\": " : ": ", field.second);
                               })
              << (is_json ? "\n}\n" : "\n");
    return;
  }
  std::cout << answer.packet << "\n";
  for (const std::string& step : answer.steps) std::cout << "  " << step << "\n";
  if (!answer.headers.empty()) {
    std::cout << (answer.verdict == "reply" ? "the answer:\n" : "it leaves as:\n");
    for (const std::string& header : answer.headers) std::cout << "  " << header << "\n";
  }
  std::cout << "verdict: " << answer.verdict;
  if (!answer.reason.empty()) std::cout << " (" << answer.reason << ")";
  if (!answer.backend.empty()) std::cout << ", " << answer.service << "/" << answer.backend;
  std::cout << "\n";
}

int Live(const Call& call, const PacketText& text) {
  api::Explanation said;
  const absl::Status s =
      ApiClient(call.socket)
          .Get(absl::StrCat("/v1/explain?", QueryPart("packet", text.ToString())), &said);
  if (absl::IsUnavailable(s)) {
    return No(absl::UnavailableError(absl::StrCat(
        s.message(), "\n`guideway explain --config FILE PACKET` needs none: it asks the file")));
  }
  if (!s.ok()) return No(s);
  Explanation answer;
  answer.packet = said.packet();
  answer.verdict = said.verdict();
  answer.reason = said.reason();
  answer.service = said.service();
  answer.backend = said.backend();
  answer.flow = said.flow();
  if (said.has_slot()) answer.slot = said.slot();
  answer.home = said.home();
  answer.steps.assign(said.steps().begin(), said.steps().end());
  answer.headers.assign(said.headers().begin(), said.headers().end());
  Show(call, answer);
  return kYes;
}

int RunExplain(const Call& call) {
  if (call.Has("down") && !call.Has("config")) return Wrong("--down needs --config FILE");
  const absl::StatusOr<PacketText> text = PacketText::Parse(absl::StrJoin(call.args, " "));
  if (!text.ok()) return WrongPacket(text.status().message(), "explain");
  if (!call.Has("config")) return Live(call, *text);
  const absl::StatusOr<Offline> offline =
      LoadOffline(call.Values("config")[0], call.Values("down"));
  if (absl::IsOutOfRange(offline.status())) {
    return Wrong(absl::StrCat("--down: ", offline.status().message()));
  }
  if (!offline.ok()) return No(offline.status());
  Show(call, ExplainPacket(*offline->snapshot, offline->interfaces, *text));
  return kYes;
}

}  // namespace

Verb ExplainVerb() {
  return {.name = "explain",
          .arguments = "PACKET",
          .live = false,
          .arguments_count = 1,
          .run = RunExplain,
          .summary = "where one packet would go, and why",
          .help = kHelp,
          .options = kOptions,
          .more_arguments = true,
          .live_arguments = "PACKET"};
}

}  // namespace guideway
