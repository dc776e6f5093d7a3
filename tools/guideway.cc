// `guideway`: the command line. A verb is a row of kVerbs; the rest of this file is what the rows
// point to, but for verbs that have a file of their own. Exit status: 0 success, 1 «no», 2 a wrong
// call.
#include <algorithm>
#include <boost/program_options.hpp>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "control/api/api.pb.h"
#include "control/config/config.h"
#include "control/config/diagnostics.h"
#include "maglev/time_text.h"
#include "tools/api_client.h"
#include "tools/completion.h"
#include "tools/configuration.h"
#include "tools/live_view.h"
#include "tools/top.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

namespace po = boost::program_options;

constexpr char kDefaultSocket[] = "/run/guideway/guideway.sock";

// --- check ---------------------------------------------------------------------------------------

// As the value of a YAML key.
std::string Indented(absl::string_view yaml) {
  return absl::StrCat("  ", absl::StrReplaceAll(absl::StripSuffix(yaml, "\n"), {{"\n", "\n  "}}),
                      "\n");
}

int RunCheck(const Call& call) {
  const std::string& file = call.args[0];
  const absl::StatusOr<LoadedConfig> loaded = LoadConfiguration(file);
  std::vector<std::string> errors, warnings;
  if (loaded.ok()) {
    warnings = loaded->warnings;
  } else {
    errors = absl::StrSplit(std::string(loaded.status().message()), '\n', absl::SkipEmpty());
  }
  for (const std::string& error : errors) std::cerr << error << "\n";
  const absl::string_view valid = loaded.ok() ? "true" : "false";
  if (call.format == Format::kJson) {
    std::cout << "{\n\"valid\": " << valid << ",\n\"errors\": " << ToJson(errors)
              << ",\n\"warnings\": " << ToJson(warnings)
              << ",\n\"config\": " << (loaded.ok() ? ToJson(loaded->config) : "null\n") << "}\n";
    return loaded.ok() ? kYes : kNo;
  }
  if (call.format == Format::kYaml) {
    // A list of JSON is one of YAML, too.
    std::cout << "valid: " << valid << "\nerrors: " << ToJson(errors)
              << "\nwarnings: " << ToJson(warnings)
              << "\nconfig:" << (loaded.ok() ? "\n" : " null\n");
    if (loaded.ok()) std::cout << Indented(RenderYaml(loaded->config));
    return loaded.ok() ? kYes : kNo;
  }
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  if (!loaded.ok()) return kNo;
  const config::Config& config = loaded->config;
  uint64_t backends = 0;
  for (const config::Service& service : config.services()) backends += service.backends_size();
  std::cout << (file == "-" ? kStandardInput : file) << ": valid\n"
            << Counted(config.interfaces_size(), "interface") << ", "
            << Counted(config.routes_size(), "route") << ", "
            << Counted(config.services_size(), "service") << ", " << Counted(backends, "backend")
            << "\n\n# The configuration, defaults filled in\n"
            << RenderYaml(config);
  return kYes;
}

// --- status --------------------------------------------------------------------------------------

Colour ColourOfState(absl::string_view state) {
  if (state == "up" || state == "serving") return Colour::kGreen;
  return state == "down" ? Colour::kRed : Colour::kYellow;
}

// «12 dropped (10 no_backend, 2 malformed)». In full: it is seen that they add up.
std::string PacketsText(const api::PacketCounters& packets) {
  std::vector<std::pair<uint64_t, std::string>> drops;
  for (const auto& [reason, n] : packets.drops()) {
    if (n > 0) drops.emplace_back(n, reason);
  }
  std::sort(drops.rbegin(), drops.rend());
  std::vector<std::string> reasons;
  for (const auto& [n, reason] : drops) {
    reasons.push_back(absl::StrCat(n, " ", reason));
  }
  return absl::StrCat(packets.received(), " received = ", packets.forwarded(), " forwarded + ",
                      packets.replied(), " replied + ", packets.punted(), " punted + ",
                      packets.dropped(), " dropped",
                      reasons.empty() ? "" : absl::StrCat(" (", absl::StrJoin(reasons, ", "), ")"));
}

void ShowWorkers(const google::protobuf::RepeatedPtrField<api::Worker>& list,
                 const Terminal& terminal) {
  using Align = Table::Align;
  Table workers({{"CORE", Align::kRight},
                 {"RECEIVED", Align::kRight},
                 {"FORWARDED", Align::kRight, 1},
                 {"DROPPED", Align::kRight},
                 {"FLOWS", Align::kRight},
                 {"OF", Align::kRight, 2},
                 {"FILL", Align::kRight},
                 {"NOT STORED", Align::kRight}});
  for (const api::Worker& w : list) {
    const double fill = w.flow_capacity() == 0 ? 0
                                               : static_cast<double>(w.flows()) /
                                                     static_cast<double>(w.flow_capacity());
    workers.Add({absl::StrCat(w.core()), HumanCount(w.packets().received()),
                 HumanCount(w.packets().forwarded()), HumanCount(w.packets().dropped()),
                 HumanCount(w.flows()), HumanCount(w.flow_capacity()), HumanPercent(fill),
                 HumanCount(w.flows_not_stored())});
  }
  std::cout << workers.Render(terminal);
}

void ShowInterfaces(const google::protobuf::RepeatedPtrField<api::Interface>& list,
                    const Terminal& terminal) {
  using Align = Table::Align;
  Table interfaces({Table::Names("INTERFACE"),
                    {"LINK"},
                    {"MAC", Align::kLeft, 1, Table::Shorten::kNever},
                    {"RECEIVED", Align::kRight},
                    {"SENT", Align::kRight},
                    {"MISSED", Align::kRight},
                    {"DEVICE", Align::kLeft, 2}});
  for (const api::Interface& i : list) {
    interfaces.Add({i.name(),
                    {i.link_up() ? "up" : "down", i.link_up() ? Colour::kGreen : Colour::kRed},
                    i.mac(),
                    HumanCount(i.received_packets()),
                    HumanCount(i.sent_packets()),
                    {HumanCount(i.missed()), i.missed() > 0 ? Colour::kYellow : Colour::kNone},
                    i.device()});
  }
  std::cout << interfaces.Render(terminal);
}

// Those from `first` on.
void ShowEvents(const google::protobuf::RepeatedPtrField<api::Event>& list, int first,
                const Terminal& terminal) {
  for (int i = std::max(0, first); i < list.size(); ++i) {
    std::cout << Coloured(TimeText(list[i].time()) + " UTC", Colour::kDim, terminal) << "  "
              << Printable(list[i].text()) << "\n";
  }
}

std::string ConfigurationText(const api::Status& status) {
  if (status.configuration() == "last revision") {
    return absl::StrCat("the last revision's, from ", status.applied_file(), ": ",
                        status.config_file(), " could not be used");
  }
  if (status.applied_file().empty()) return status.config_file();
  return absl::StrCat(status.applied_file(), ", applied; SIGHUP goes back to ",
                      status.config_file());
}

// «, by root at 2026-01-02 03:04:05 UTC»; empty if nobody knows.
std::string ByText(bool known, const api::Author& author) {
  if (!known) return "";
  return absl::StrCat(", by ", author.who(), " at ", TimeText(author.time()), " UTC");
}

// «drain web/web-1, weight web/web-1 50 (file: 100)»
std::string OverrideText(const api::Override& override) {
  const std::string name = absl::StrCat(override.service(), "/", override.backend());
  std::vector<std::string> parts;
  if (override.drained()) {
    parts.push_back(absl::StrCat("drain ", name, override.file_drains() ? " (file: drain)" : "",
                                 ByText(override.has_drained_by(), override.drained_by())));
  }
  if (override.has_weight()) {
    parts.push_back(absl::StrCat("weight ", name, " ", override.weight()));
    if (override.has_file_weight()) {
      absl::StrAppend(&parts.back(), " (file: ", override.file_weight(), ")");
    }
    absl::StrAppend(&parts.back(), ByText(override.has_weight_by(), override.weight_by()));
  }
  return absl::StrJoin(parts, ", ");
}

// What was refused last; each line of why on one of its own.
void ShowRefusal(const api::Refusal& refusal, const Terminal& terminal) {
  const bool old = refusal.changed_since();
  std::cout << Coloured(absl::StrCat(old ? "- " : "! ", RefusalText(refusal), ", at ",
                                     Printable(TimeText(refusal.time())), " UTC:"),
                        old ? Colour::kYellow : Colour::kRed, terminal)
            << "\n";
  for (absl::string_view line : absl::StrSplit(refusal.why(), '\n')) {
    std::cout << "    " << Printable(line) << "\n";
  }
}

int RunStatus(const Call& call) {
  ApiClient client(call.socket);
  TopLook look;
  if (absl::Status s = client.Get("/v1/status", &look.status); !s.ok()) return No(s);
  if (ShowMessage(call, look.status)) return kYes;
  absl::Status more = client.Get("/v1/services", &look.services);
  if (more.ok()) more = client.Get("/v1/backends", &look.backends);
  if (!more.ok()) return No(more);
  const api::Status& status = look.status;
  const Terminal& terminal = call.terminal;
  const auto& services = look.services.services();
  const auto without_backend =
      static_cast<int>(std::count_if(services.begin(), services.end(),
                                     [](const api::Service& s) { return s.backends_up() == 0; }));
  std::cout << "guidewayd " << status.version() << "  "
            << ServingText(status, services.size(), without_backend, terminal) << "  pid "
            << status.pid() << ", up " << HumanDuration(status.uptime_seconds()) << "\n"
            << "configuration  " << ConfigurationText(status) << "\n"
            << "revision  " << status.revision() << ", " << status.how()
            << (status.who() == status.how() ? "" : absl::StrCat(" by ", status.who())) << " at "
            << TimeText(status.time()) << " UTC\n";
  if (status.has_refused()) ShowRefusal(status.refused(), terminal);
  for (const std::string& problem : StandingProblems(look)) {
    std::cout << Coloured(absl::StrCat("! ", Printable(problem)), Colour::kRed, terminal) << "\n";
  }
  for (const api::Override& override : status.overrides()) {
    std::cout << Coloured("by hand:", Colour::kYellow, terminal) << " "
              << Printable(OverrideText(override)) << "\n";
  }
  std::cout << "packets  " << PacketsText(status.packets()) << "\n";
  for (const std::string& warning : status.warnings()) {
    std::cout << Coloured("warning:", Colour::kYellow, terminal) << " " << warning << "\n";
  }
  for (const std::string& warning : status.history().warnings()) {
    std::cout << Coloured("warning:", Colour::kYellow, terminal) << " " << Printable(warning)
              << "\n";
  }

  std::cout << "\n";
  ShowWorkers(status.workers(), terminal);
  std::cout << "\n";
  ShowInterfaces(status.interfaces(), terminal);
  constexpr int kEventsShown = 5;
  if (status.events_size() > 0) std::cout << "\n";
  ShowEvents(status.events(), status.events_size() - kEventsShown, terminal);
  return kYes;
}

// --- get -----------------------------------------------------------------------------------------

int GetServices(const Call& call) {
  api::ServiceList list;
  if (absl::Status s = ApiClient(call.socket).Get("/v1/services", &list); !s.ok()) return No(s);
  if (ShowMessage(call, list)) return kYes;
  using Align = Table::Align;
  Table table({Table::Names("SERVICE"),
               {"VIPS"},
               {"PROTOCOL", Align::kLeft, 2},
               {"PORTS"},
               {"FORWARDING", Align::kLeft, 4},
               {"SCHEDULER", Align::kLeft, 4},
               {"UP", Align::kRight},
               {"PACKETS", Align::kRight, 1},
               {"BYTES", Align::kRight, 3},
               {"DROPPED", Align::kRight},
               {"OPENED", Align::kRight, 3},
               {"OPEN", Align::kRight}});
  for (const api::Service& s : list.services()) {
    const Colour colour = s.backends_up() == 0             ? Colour::kRed
                          : s.backends_up() < s.backends() ? Colour::kYellow
                                                           : Colour::kGreen;
    table.Add({s.name(),
               absl::StrJoin(s.vips(), ","),
               s.protocol(),
               absl::StrJoin(s.ports(), ","),
               s.forwarding(),
               s.scheduler(),
               {absl::StrCat(s.backends_up(), "/", s.backends(),
                             s.health_ignored() ? absl::StrCat(", ", s.healthy(), " healthy") : ""),
                colour},
               HumanCount(s.packets()),
               HumanBytes(s.bytes()),
               HumanCount(s.dropped()),
               HumanCount(s.new_flows()),
               HumanCount(OpenOf(s))});
  }
  std::cout << table.Render(call.terminal);
  return kYes;
}

std::string StateText(const api::Backend& backend) {
  const std::string& state = backend.state();
  if (state == "up" && backend.tenths() < 10) {
    return absl::StrCat("up, slow start ", backend.tenths(), "/10");
  }
  if (state == "held") {
    return absl::StrCat("held ", HumanDuration(backend.held_seconds()), ", was down ",
                        backend.times_down(), " times");
  }
  if (state == "drain") {
    absl::string_view by;
    if (backend.drained_by_hand())
      by = backend.drained_by_file() ? " (by hand and file)" : " (by hand)";
    return absl::StrCat("drain", by, backend.down() ? ", down" : "");
  }
  if (backend.health_ignored() && state != "up") return absl::StrCat(state, ", ignored");
  if (state == "checking" && backend.share() > 0) return "checking, taken for up";
  return state;
}

int GetBackends(const Call& call) {
  api::BackendList list;
  if (absl::Status s = ApiClient(call.socket).Get("/v1/backends", &list); !s.ok()) return No(s);
  if (ShowMessage(call, list)) return kYes;
  using Align = Table::Align;
  std::vector<Table::Column> columns = {Table::Names("SERVICE"),
                                        Table::Names("BACKEND"),
                                        Table::Names("ADDRESS", 2),
                                        {"STATE"},
                                        {"HEALTH"},
                                        {"WEIGHT", Align::kRight, 1},
                                        {"SHARE", Align::kRight},
                                        {"PACKETS", Align::kRight, 3},
                                        {"BYTES", Align::kRight, 4},
                                        {"OPENED", Align::kRight, 4},
                                        {"OPEN", Align::kRight},
                                        {"CLOSING", Align::kRight, 5}};
  constexpr ptrdiff_t kRegion = 2;
  const bool has_regions = std::any_of(list.backends().begin(), list.backends().end(),
                                       [](const api::Backend& b) { return !b.region().empty(); });
  if (has_regions) columns.insert(columns.begin() + kRegion, Table::Names("REGION", 1));
  Table table(std::move(columns));
  for (const api::Backend& b : list.backends()) {
    std::vector<Table::Cell> row = {b.service(),
                                    b.name(),
                                    b.address(),
                                    {StateText(b), ColourOfState(b.state())},
                                    b.health().empty() ? "-" : b.health(),
                                    b.weight_by_hand()
                                        ? absl::StrCat(b.weight(), " (file: ", b.file_weight(), ")")
                                        : absl::StrCat(b.weight()),
                                    HumanPercent(b.share()),
                                    HumanCount(b.packets()),
                                    HumanBytes(b.bytes()),
                                    HumanCount(b.new_flows()),
                                    HumanCount(OpenOf(b)),
                                    HumanCount(b.closing_flows())};
    if (has_regions) row.insert(row.begin() + kRegion, b.region().empty() ? "-" : b.region());
    table.Add(std::move(row));
  }
  std::cout << table.Render(call.terminal);
  return kYes;
}

// What is a part of Status.
template <typename List>
int GetPart(const Call& call, List (*part)(const api::Status& status),
            void (*show)(const List& list, const Terminal& terminal)) {
  api::Status status;
  if (absl::Status s = ApiClient(call.socket).Get("/v1/status", &status); !s.ok()) return No(s);
  const List list = part(status);
  if (!ShowMessage(call, list)) show(list, call.terminal);
  return kYes;
}

int GetWorkers(const Call& call) {
  return GetPart<api::WorkerList>(
      call,
      [](const api::Status& status) {
        api::WorkerList list;
        *list.mutable_workers() = status.workers();
        return list;
      },
      [](const api::WorkerList& list, const Terminal& terminal) {
        ShowWorkers(list.workers(), terminal);
      });
}

int GetInterfaces(const Call& call) {
  return GetPart<api::InterfaceList>(
      call,
      [](const api::Status& status) {
        api::InterfaceList list;
        *list.mutable_interfaces() = status.interfaces();
        return list;
      },
      [](const api::InterfaceList& list, const Terminal& terminal) {
        ShowInterfaces(list.interfaces(), terminal);
      });
}

int GetEvents(const Call& call) {
  return GetPart<api::EventList>(
      call,
      [](const api::Status& status) {
        api::EventList list;
        *list.mutable_events() = status.events();
        return list;
      },
      [](const api::EventList& list, const Terminal& terminal) {
        ShowEvents(list.events(), 0, terminal);
      });
}

// What `get` shows, a row each.
constexpr struct {
  absl::string_view name;
  int (*run)(const Call& call);
} kThings[] = {
    {"services", GetServices}, {"backends", GetBackends}, {"interfaces", GetInterfaces},
    {"workers", GetWorkers},   {"flows", GetFlows},       {"events", GetEvents},
};

constexpr Option kGetOptions[] = {
    {"service", "NAME", "flows: of this service"},
    {"backend", "SERVICE/BACKEND", "flows: of this backend"},
    {"state", "handshake|established|closing|udp", "flows: in this state"},
    {"older-than", "DURATION", "flows: without a packet for so long, like 90s or 10m"},
    {"younger-than", "DURATION", "flows: with a packet since then"},
    {"entries", "", "flows: every entry on a line, not counts"},
    {"flow", "PACKET", "flows: the entry of this packet's connection"},
    kWatchOption,
    kIntervalOption,
    kCountOption,
};

int RunGet(const Call& call) {
  std::vector<std::string> known;
  for (const auto& thing : kThings) {
    if (thing.name == absl::string_view(call.args[0])) {
      if (thing.run != GetFlows && !call.options.empty()) {
        return WrongCall(
            absl::StrCat("--", call.options.begin()->first, " has no effect with get ", thing.name),
            "get");
      }
      return thing.run(call);
    }
    known.emplace_back(thing.name);
  }
  return WrongCall(absl::StrCat("there is no \"", call.args[0], "\" to get; there are ",
                                absl::StrJoin(known, ", "), Suggestion(call.args[0], known)),
                   "get");
}

// --- history -------------------------------------------------------------------------------------

int RunHistory(const Call& call) {
  uint64_t number = 0;
  if (!ReadRevision(call, "history", &number)) return kWrongCall;
  ApiClient client(call.socket);
  if (number > 0) {
    api::RevisionText text;
    if (absl::Status s = client.Get(absl::StrCat("/v1/history?revision=", number), &text);
        !s.ok()) {
      return Refused(s, "history");
    }
    if (!ShowMessage(call, text)) std::cout << text.text();
    return kYes;
  }
  api::RevisionList list;
  if (absl::Status s = client.Get("/v1/history", &list); !s.ok()) return No(s);
  if (ShowMessage(call, list)) return kYes;
  using Align = Table::Align;
  Table table({{"REVISION", Align::kRight},
               {"TIME (UTC)", Align::kLeft, 0, Table::Shorten::kNever},
               Table::Names("WHO"),
               {"HOW", Align::kLeft, 0, Table::Shorten::kMiddle, 30},
               Table::Names("FILE", 1),
               {"OVERRIDES", Align::kLeft, 2}});
  for (const api::Revision& r : list.revisions()) {
    std::vector<std::string> overrides;
    for (const api::Override& override : r.overrides()) overrides.push_back(OverrideText(override));
    table.Add({absl::StrCat(r.number()), TimeText(r.time()), r.who(), r.how(), r.file(),
               overrides.empty() ? "-" : absl::StrJoin(overrides, ", ")});
  }
  std::cout << table.Render(call.terminal);
  return kYes;
}

// --- the call ------------------------------------------------------------------------------------

const Verb kVerbs[] = {
    {"check", "FILE", false, 1, RunCheck, "validate a configuration and show it with its defaults",
     "Validates a configuration without a daemon, root or huge pages. Errors go to standard "
     "error,\n"
     "as FILE:LINE:COLUMN: what was found; what is allowed. Exit status 0: valid; 1: not.\n\n"
     "Files that it names (deny_files, key_file, …) are read too, from its directory on. - is\n"
     "standard input, <stdin> in errors; relative names then start at the working directory.\n\n"
     "-o json and -o yaml print `valid`, `errors`, `warnings`, and `config` with its defaults "
     "(null "
     "if\n"
     "it is not valid).\n\n"
     "  guideway check /etc/guideway.yaml\n"
     "  sed s/100/50/ guideway.yaml | guideway check -"},
    PlanVerb(),
    TableVerb(),
    ReplayVerb(),
    ExplainVerb(),
    CompletionVerb(),
    {"status", "", true, 0, RunStatus, "what the daemon is, does and last refused",
     "Shows the daemon: configuration in force, packets by what became of them, workers,\n"
     "interfaces and the latest changes of state.\n\n"
     "  guideway status\n"
     "  guideway status -o json --socket /run/guideway/other.sock",
     kWatchOptions},
    {"get",
     "services|backends|interfaces|workers|flows|events",
     true,
     1,
     RunGet,
     "list what there is, with its counters",
     "Lists what is so now.\n"
     "  services    VIPs, backends that take new connections, packets, connections opened and "
     "open\n"
     "  backends    state, last answer to a probe, share of new connections, counters; bytes as "
     "sent,\n"
     "              with a tunnel's outer headers (a service's are as they came in)\n"
     "  interfaces  link, address, packets received, sent and missed\n"
     "  workers     cores, packets, how full the flow tables are\n"
     "  flows       what the flow tables hold, by service, backend, state and age; with --entries\n"
     "              each entry (which has no addresses, only a hash of them), with --flow the one "
     "of "
     "a\n"
     "              packet (exit status 1: there is none)\n"
     "  events      the latest changes of state, oldest first\n"
     "A flow's age is the time since its last packet; of one that is unconfirmed, that is, was "
     "seen\n"
     "within one second only, since its first. One that has timed out is about to go, and does "
     "not\n"
     "count any more. Times are UTC.\n\n"
     "  guideway get backends\n"
     "  guideway get backends --watch --interval 2s\n"
     "  guideway get flows --backend web/web-1\n"
     "  guideway get flows --service web --state established --older-than 10m --entries\n"
     "  guideway get flows --flow 'tcp 203.0.113.7:40000 > 198.51.100.10:80'",
     kGetOptions,
     false,
     {},
     [](const Call& call) { return call.args[0] == "events"; }},
    TopVerb(),
    DrainVerb(),
    UndrainVerb(),
    WeightVerb(),
    ApplyVerb(),
    {"history",
     "[REVISION]",
     true,
     0,
     RunHistory,
     "what was in force, since when, and by whom",
     "Lists the revisions, the newest last: it is in force. A revision is a configuration with "
     "the\n"
     "drains and weights by hand; every apply, reload, rollback, start, drain, undrain and weight\n"
     "makes one. With REVISION: the text of its configuration. Times are UTC.\n\n"
     "  guideway history\n"
     "  guideway history 12 > old.yaml && guideway plan old.yaml /etc/guideway.yaml",
     {},
     true},
    RollbackVerb(),
};

// Options that every verb takes.
constexpr Option kCommonOptions[] = {
    {"output", "table|json|yaml", "how to show it; table if not given", false, 'o'},
    {"socket", "PATH", "the daemon's control socket; /run/guideway/guideway.sock if not given"},
    {"help", "", "this text; after a verb, the verb's", false, 'h'},
    {"version", "", "the version"},
};

const Verb* FindVerb(absl::string_view name) {
  const auto* verb = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                  [&](const Verb& v) { return v.name == name; });
  return verb == std::end(kVerbs) ? nullptr : verb;
}

// The columns of a terminal that --help is written for, at most; 0 if there is none.
size_t HelpWidth() {
  constexpr size_t kMost = 96;
  return std::min(kMost, Terminal::Stdout().width);
}

// Two columns; what is too long for the first has a line of its own.
void PrintRow(std::ostream& out, absl::string_view left, absl::string_view right) {
  constexpr size_t kLeft = 32;
  const std::string indent(kLeft + 2, ' ');
  const size_t width = HelpWidth();
  const std::string text = Filled(right, width > indent.size() ? width - indent.size() : 0);
  out << "  " << left
      << (left.size() + 2 > kLeft ? absl::StrCat("\n", indent)
                                  : std::string(kLeft - left.size(), ' '))
      << absl::StrReplaceAll(text, {{"\n", absl::StrCat("\n", indent)}}) << "\n";
}

// Of which one asks a daemon, and takes other arguments.
bool HasTwoForms(const Verb& verb) {
  return !verb.live_arguments.empty() && verb.live_arguments != verb.arguments;
}

void PrintVerbs(std::ostream& out, bool live) {
  for (const Verb& verb : kVerbs) {
    const bool in_live_form = live && !verb.live_arguments.empty();
    if (verb.live != live && !in_live_form) continue;
    PrintRow(out, absl::StrCat(verb.name, " ", in_live_form ? verb.live_arguments : verb.arguments),
             verb.summary);
  }
}

void PrintOptions(std::ostream& out, absl::Span<const Option> options) {
  for (const Option& option : options) {
    const std::string letter =
        option.letter == 0 ? "    " : absl::StrCat("-", std::string(1, option.letter), ", ");
    PrintRow(out, absl::StrCat(letter, "--", option.name, " ", option.argument), option.help);
  }
}

void PrintHelp(std::ostream& out) {
  out << "usage: guideway VERB [ARGUMENT] [OPTION]...\n\n"
         "Offline, needs no daemon and no root:\n";
  PrintVerbs(out, false);
  out << "\nLive, asks a running guidewayd over its Unix socket:\n";
  PrintVerbs(out, true);
  out << "\nOptions:\n";
  PrintOptions(out, kCommonOptions);
  out << "\nExit status: 0 success, 1 «no», 2 a wrong call. With -o json and yaml, too, errors are "
         "text on\n"
         "standard error; warnings are in the answer where it has a place for them.\n\n"
      << Filled(
             "-o json has 64-bit numbers of live verbs and plan as strings, \"packets\": "
             "\"1234567\"; jq's "
             "`tonumber` makes numbers of them. -o yaml has the same shape with numbers.",
             HelpWidth() == 0 ? 80 : HelpWidth())
      << "\n\n"
      << Filled(
             "A PACKET is written 'tcp 203.0.113.7:40000 > 198.51.100.10:80'. `guideway VERB "
             "--help` has more, with examples. To begin with:",
             HelpWidth() == 0 ? 80 : HelpWidth())
      << "\n\n"
         "  guideway get backends\n"
         "  guideway drain web/web-2\n"
         "  guideway explain 'tcp 203.0.113.7:40000 > 198.51.100.10:80'\n";
}

void PrintHelp(std::ostream& out, const Verb& verb) {
  out << "usage: guideway ";
  if (HasTwoForms(verb)) out << verb.name << " " << verb.live_arguments << " | guideway ";
  out << verb.name << (verb.arguments.empty() ? "" : " ") << verb.arguments << " [OPTION]...\n\n"
      << Filled(verb.help, HelpWidth()) << "\n\nOptions:\n";
  PrintOptions(out, verb.options);
  PrintOptions(out, kCommonOptions);
}

using Strings = std::vector<std::string>;

// A negative number is an argument, for the verb to refuse: no option begins with a digit.
std::vector<po::option> NegativeNumber(Strings& words) {
  std::vector<po::option> found;
  if (words[0].size() < 2 || words[0][0] != '-' ||
      !absl::ascii_isdigit(static_cast<unsigned char>(words[0][1]))) {
    return found;
  }
  po::option& option = found.emplace_back();
  option.value = option.original_tokens = {words[0]};
  option.position_key = std::numeric_limits<int>::max();
  words.erase(words.begin());
  return found;
}

// The verb of a call that could not be understood.
const Verb* VerbOf(int argc, char** argv) {
  const Verb* verb = nullptr;
  for (int i = 1; i < argc && verb == nullptr; ++i) verb = FindVerb(argv[i]);
  return verb;
}

// Moves the options that only some verbs take into the call. If one of them is not the verb's, or
// came too often, says so and returns false.
bool TakeOptions(const po::variables_map& parsed, const Verb& verb, Call* call) {
  for (const Verb& any : kVerbs) {
    for (const Option& option : any.options) {
      const std::string name(option.name);
      if (parsed.count(name) == 0) continue;
      const auto own = std::find_if(verb.options.begin(), verb.options.end(),
                                    [&](const Option& o) { return o.name == option.name; });
      if (own == verb.options.end()) {
        WrongCall(absl::StrCat("--", name, " has no effect with ", verb.name), verb.name);
        return false;
      }
      const Strings& values = call->options[name] =
          own->argument.empty() ? Strings{""} : parsed[name].as<Strings>();
      if (values.size() > 1 && !own->repeats) {
        WrongCall(absl::StrCat("--", name, " cannot be given more than once"), verb.name);
        return false;
      }
      for (const std::string& value : values) {
        const std::string why = own->why_none == nullptr ? "" : own->why_none(value);
        if (why.empty()) continue;
        WrongCall(absl::StrCat("--", name, " \"", value, "\" is ", why), verb.name);
        return false;
      }
    }
  }
  return true;
}

int UnknownOption(const std::string& name, int argc, char** argv) {
  const Verb* of = VerbOf(argc, argv);
  Strings known;
  for (const Option& option : kCommonOptions) known.push_back(absl::StrCat("--", option.name));
  for (const Option& option : of == nullptr ? absl::Span<const Option>() : of->options) {
    known.push_back(absl::StrCat("--", option.name));
  }
  return WrongCall(absl::StrCat("there is no option ", name, Suggestion(name, known)),
                   of == nullptr ? "" : of->name);
}

int Main(int argc, char** argv) {
  if (argc > 1 && absl::string_view(argv[1]) == "__complete") {
    Complete(kVerbs, kCommonOptions, Strings(argv + 2, argv + argc), kDefaultSocket, std::cout);
    return kYes;
  }
  po::options_description options;
  options.add_options()("help,h", "")("version", "")(
      "output,o", po::value<std::string>()->default_value("table"), "")(
      "socket", po::value<std::string>()->default_value(kDefaultSocket), "")(
      "words", po::value<Strings>(), "");
  for (const Verb& verb : kVerbs) {
    for (const Option& option : verb.options) {
      const std::string name(option.name);
      if (options.find_nothrow(name, false) != nullptr) continue;  // of another verb as well
      // One without an argument has an empty value where it is given.
      options.add_options()(name.c_str(),
                            option.argument.empty()
                                ? po::value<Strings>()->zero_tokens()->implicit_value({""}, "")
                                : po::value<Strings>(),
                            "");
    }
  }
  po::positional_options_description words;
  words.add("words", -1);

  po::variables_map parsed;
  try {
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(argc, argv)
                  .options(options)
                  .positional(words)
                  .style(style)
                  .extra_style_parser(NegativeNumber)
                  .run(),
              parsed);
    po::notify(parsed);
  } catch (const po::unknown_option& e) {
    return UnknownOption(e.get_option_name(), argc, argv);
  } catch (const po::error& e) {
    const Verb* of = VerbOf(argc, argv);
    return WrongCall(e.what(), of == nullptr ? "" : of->name);
  }

  Call call;
  if (parsed.count("words") > 0) call.args = parsed["words"].as<Strings>();
  if (parsed.count("version") > 0) {
    std::cout << "guideway " GUIDEWAY_VERSION "\n";
    return kYes;
  }
  if (call.args.empty()) {
    PrintHelp(parsed.count("help") > 0 ? std::cout : std::cerr);
    return parsed.count("help") > 0 ? kYes : kWrongCall;
  }
  const std::string name = call.args[0];
  call.args.erase(call.args.begin());
  const Verb* verb = FindVerb(name);
  if (verb == nullptr) {
    Strings known;
    for (const Verb& v : kVerbs) known.emplace_back(v.name);
    if (name == "help") {  // as many programs have it
      const Verb* of = call.args.empty() ? nullptr : FindVerb(call.args[0]);
      of == nullptr ? PrintHelp(std::cout) : PrintHelp(std::cout, *of);
      return kYes;
    }
    return WrongCall(absl::StrCat("there is no verb \"", name, "\"", Suggestion(name, known)));
  }
  if (parsed.count("help") > 0) {
    PrintHelp(std::cout, *verb);
    return kYes;
  }
  const std::string& format = parsed["output"].as<std::string>();
  if (format == "json") {
    call.format = Format::kJson;
  } else if (format == "yaml") {
    call.format = Format::kYaml;
  } else if (format != "table") {
    return WrongCall(absl::StrCat("there is no output format \"", format,
                                  "\"; there are table, json, yaml",
                                  Suggestion(format, {"table", "json", "yaml"})));
  }
  if (!TakeOptions(parsed, *verb, &call)) return kWrongCall;
  if (call.args.size() < verb->arguments_count) {
    return WrongCall(
        absl::StrCat(verb->name, " needs ",
                     HasTwoForms(*verb) ? absl::StrCat(verb->live_arguments, ", or ") : "",
                     verb->arguments),
        verb->name);
  }
  if (call.args.size() > verb->arguments_count && !verb->more_arguments) {
    return WrongCall(absl::StrCat("\"", call.args[verb->arguments_count],
                                  "\" is one argument too "
                                  "many for ",
                                  verb->name),
                     verb->name);
  }
  call.socket = parsed["socket"].as<std::string>();
  call.terminal = Terminal::Stdout();
  const bool watches =
      std::any_of(verb->options.begin(), verb->options.end(),
                  [](const Option& option) { return option.name == kWatchOption.name; });
  if (watches && !call.Has("watch")) {
    for (const char* option : {"interval", "count"}) {
      if (call.Has(option)) {
        return WrongCall(absl::StrCat("--", option, " has no effect without --watch"), verb->name);
      }
    }
  }
  const int status = call.Has("watch") ? Watch(call, *verb) : verb->run(call);
  std::cout.flush();
  if (std::cout) return status;
  std::cerr << "guideway: the output could not be written\n";
  return kNo;
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) { return guideway::Main(argc, argv); }
