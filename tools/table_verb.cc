// `guideway table`: what a lookup table does to new connections, for a service of a file or for a
// pool that is made up.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "control/config/config.h"
#include "control/config/diagnostics.h"
#include "control/config/rules.pb.h"
#include "tools/configuration.h"
#include "tools/made_up_pool.h"
#include "tools/table_report.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

constexpr Option kOptions[] = {
    {"config", "FILE", "a configuration; - is standard input"},
    {"service", "NAME", "which of its services"},
    {"region", "NAME", "which region of the service, if it is geographic"},
    {"backends", "N", "a made-up pool of N backends, 1 to 65535"},
    {"size", "M", "slots of its table: a prime from N to 16777213"},
    {"weights", "W", "its weights are 1, 2, … W in turn; all equal if not given"},
    {"seed", "S", "its hash seed; the default of fleet.hash_seed if not given"},
    {"was-down", "BACKEND|J", "down before: a name, or more of them; made up: how many", true},
    {"down", "BACKEND|K", "down now, likewise", true},
};

constexpr char kHelp[] =
    "Shows how evenly a lookup table spreads new connections over its backends, and how many of\n"
    "its slots move when backends fail and return. The table is of a service in a file, or of a\n"
    "pool that is made up, to find a size:\n\n"
    "  guideway table --config FILE --service NAME [--region NAME]\n"
    "                 [--was-down BACKEND]... [--down BACKEND]...\n"
    "  guideway table --backends N --size M [--weights W] [--seed S]\n"
    "                 [--was-down J] [--down K]\n\n"
    "for example\n\n"
    "  guideway table --config /etc/guideway.yaml --service web --down web-2\n"
    "  guideway table --backends 1000 --size 65537 --down 10\n\n"
    "Slots move from the state before (nobody down, if --was-down is not given) to the state now.\n"
    "They have to if their backend went down, or if they go to one that came back.\n"
    "Backends that the file drains take no new connections in either state. Who is down in a pool\n"
    "that is made up is a fixed choice: K + 1 are the same K and one more.\n"
    "Exit status 1: nobody takes new connections now, or the file cannot be read or is not valid.";

// What to make a table of. The sets are of indices into the pool.
struct Question {
  std::string subject;  // «service web»
  std::vector<PoolMember> pool;
  uint32_t size = 0;
  uint64_t seed = 0;
  std::set<size_t> drained, was_down, down;
  std::string fallback;  // the regions that stand in for this one, as text
};

int Wrong(absl::string_view why) { return WrongCall(why, "table"); }

// Names, or that there are none.
std::string NamesText(const std::vector<std::string>& names) {
  return names.empty() ? "none" : Listed(names, 20);
}

template <typename Messages>
std::vector<std::string> NamesOf(const Messages& messages) {
  std::vector<std::string> names;
  for (const auto& message : messages) names.push_back(message.name());
  return names;
}

// --- a service of a file -------------------------------------------------------------------------

// The region whose table is meant: empty unless the service is geographic. Nothing, with what is
// wrong in `*why`, if that is not clear.
std::optional<std::string> ChooseRegion(const Call& call, const config::Service& service,
                                        std::string* why) {
  const std::string asked = call.Has("region") ? call.Values("region")[0] : "";
  const std::string regions = NamesText(NamesOf(service.regions()));
  if (SchedulerOf(service) != Scheduler::kGeographic) {
    if (!call.Has("region")) return "";
    *why = absl::StrCat("service ", service.name(), " has no regions; it has one table");
    return std::nullopt;
  }
  if (call.Has("region")) {
    if (RegionIndex(service, asked)) return asked;
    *why = absl::StrCat("service ", service.name(), " has no region \"", asked, "\"; it has ",
                        regions);
    return std::nullopt;
  }
  std::set<std::string> with_backends;
  for (const config::Backend& backend : service.backends()) with_backends.insert(backend.region());
  if (with_backends.size() == 1) return *with_backends.begin();
  if (service.regions_size() == 1) return service.regions(0).name();
  *why = absl::StrCat("service ", service.name(), " has a table for each region; choose by ",
                      "--region one of ", regions);
  return std::nullopt;
}

// The backends that `option` names, as indices into the pool. Nothing, after saying why, if one of
// the names is not there.
std::optional<std::set<size_t>> ReadNames(const Call& call, const std::string& option,
                                          const Question& question) {
  std::vector<std::string> names;
  for (const PoolMember& member : question.pool) names.push_back(member.name);  // sorted
  std::set<size_t> named;
  for (const std::string& name : call.Values(option)) {
    const auto it = std::lower_bound(names.begin(), names.end(), name);
    if (it == names.end() || *it != name) {
      Wrong(absl::StrCat("--", option, ": ", question.subject, " has no backend \"", name,
                         "\"; it has ", NamesText(names), Suggestion(name, names)));
      return std::nullopt;
    }
    named.insert(static_cast<size_t>(it - names.begin()));
  }
  return named;
}

int AskFile(const Call& call, Question* question) {
  if (!call.Has("config") || !call.Has("service")) {
    return Wrong("table needs both --config FILE and --service NAME");
  }
  const std::string file = call.Values("config")[0], name = call.Values("service")[0];
  const absl::StatusOr<LoadedConfig> loaded = LoadConfiguration(file);
  if (!loaded.ok()) return No(loaded.status());
  const config::Config& config = loaded->config;
  const auto service =
      std::find_if(config.services().begin(), config.services().end(),
                   [&](const config::Service& service) { return service.name() == name; });
  if (service == config.services().end()) {
    return Wrong(absl::StrCat(file, " has no service \"", name, "\"; it has ",
                              NamesText(NamesOf(config.services())),
                              Suggestion(name, NamesOf(config.services()))));
  }
  if (!UsesTable(*service)) {
    return Wrong(absl::StrCat("service ", name, " has the scheduler ",
                              config::Scheduler::Value_Name(service->scheduler()),
                              ", which goes by no table; maglev and geographic do"));
  }
  std::string why;
  const std::optional<std::string> region = ChooseRegion(call, *service, &why);
  if (!region) return Wrong(why);

  question->subject =
      absl::StrCat("service ", name, region->empty() ? "" : absl::StrCat(", region ", *region));
  question->size = TableSize(*service);
  question->seed = loaded->hash_seed;
  if (!region->empty()) {
    const config::Region& asked = service->regions(*RegionIndex(*service, *region));
    question->fallback = NamesText({asked.fallback().begin(), asked.fallback().end()});
  }
  std::vector<config::Backend> backends(service->backends().begin(), service->backends().end());
  std::erase_if(backends, [&](const config::Backend& b) { return b.region() != *region; });
  // By name, as the daemon has them.
  std::sort(backends.begin(), backends.end(),
            [](const auto& a, const auto& b) { return a.name() < b.name(); });
  for (const config::Backend& b : backends) {
    if (b.state() == config::AdminState::drain) question->drained.insert(question->pool.size());
    question->pool.push_back({b.name(), b.weight()});
  }
  auto was_down = ReadNames(call, "was-down", *question);
  if (!was_down) return kWrongCall;
  auto down = ReadNames(call, "down", *question);
  if (!down) return kWrongCall;
  question->was_down = *std::move(was_down);
  question->down = *std::move(down);
  return kYes;
}

// --- a pool that is made up ----------------------------------------------------------------------

// What fleet.hash_seed is when it is left out.
uint64_t DefaultSeed() {
  const auto* field = config::Fleet::descriptor()->FindFieldByName("hash_seed");
  uint64_t seed = 0;
  (void)absl::SimpleAtoi(field->options().GetExtension(config::rules).default_value(), &seed);
  return seed;
}

// Reads what was given after `option`, if it was, into `*number`. If it is not a number from `min`
// to `max`, says so and returns false.
template <typename Number>
bool ReadNumber(const Call& call, const std::string& option, Number min, Number max,
                Number* number) {
  if (!call.Has(option)) return true;
  const std::vector<std::string> texts = call.Values(option);
  if (texts.size() == 1 && absl::SimpleAtoi(texts[0], number) && *number >= min && *number <= max) {
    return true;
  }
  Wrong(absl::StrCat("--", option, " ", absl::StrJoin(texts, " "), ": allowed is a number from ",
                     min, " to ", max));
  return false;
}

bool ReadSize(const Call& call, uint32_t backends, uint32_t* size) {
  const std::string text = call.Values("size")[0];
  const uint32_t least = std::max(2u, backends);
  const bool is_number = absl::SimpleAtoi(text, size) && *size <= LookupTable::kMaxSize;
  if (is_number && *size >= least && IsPrime(*size)) return true;
  Wrong(absl::StrCat(
      "--size ", text, ": allowed is a prime from the number of backends, ", backends, ", to ",
      LookupTable::kMaxSize,
      is_number ? absl::StrCat("; the next one is ", NextPrime(std::max(*size, least))) : ""));
  return false;
}

int AskMadeUp(const Call& call, Question* question) {
  if (!call.Has("backends") || !call.Has("size")) {
    return Wrong("table needs both --backends N and --size M");
  }
  constexpr uint32_t kMost = LookupTable::kMaxMembers;
  uint32_t backends = 0, weights = 0, was_down = 0, down = 0;
  question->seed = DefaultSeed();
  if (!ReadNumber(call, "backends", 1u, kMost, &backends) ||
      !ReadSize(call, backends, &question->size) ||
      !ReadNumber(call, "weights", 1u, LookupTable::kMaxWeight, &weights) ||
      !ReadNumber(call, "seed", uint64_t{0}, UINT64_MAX, &question->seed) ||
      !ReadNumber(call, "was-down", 0u, backends, &was_down) ||
      !ReadNumber(call, "down", 0u, backends, &down)) {
    return kWrongCall;
  }
  question->subject = "a made-up pool";
  question->pool = MadeUpPool(backends, weights);
  const std::vector<size_t> order = OrderOfFailures(backends, question->seed);
  question->was_down.insert(order.begin(), order.begin() + was_down);
  question->down.insert(order.begin(), order.begin() + down);
  return kYes;
}

// --- the answer ----------------------------------------------------------------------------------

struct Answer {
  int64_t build_us = 0, repair_us = 0;
  Spread all_up, before, now;
  Moves moves;
};

std::vector<Share> SharesOf(const Question& question, const std::set<size_t>& down) {
  std::vector<Share> shares(question.pool.size(), kFullShare);
  for (size_t i : question.drained) shares[i] = kDown;
  for (size_t i : down) shares[i] = kDown;
  return shares;
}

int64_t MicrosecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::round<std::chrono::microseconds>(std::chrono::steady_clock::now() - start)
      .count();
}

absl::StatusOr<Answer> Measure(const Question& question) {
  Answer answer;
  auto start = std::chrono::steady_clock::now();
  const auto table = LookupTable::Build(question.pool, question.size, question.seed);
  answer.build_us = MicrosecondsSince(start);
  if (!table.ok()) return table.status();

  const std::vector<Share> all_up_shares = SharesOf(question, {});
  const std::vector<Share> before_shares = SharesOf(question, question.was_down);
  const std::vector<Share> now_shares = SharesOf(question, question.down);
  const auto all_up = table->Assign(all_up_shares), before = table->Assign(before_shares);
  start = std::chrono::steady_clock::now();
  const auto now = table->Assign(now_shares);
  answer.repair_us = MicrosecondsSince(start);

  answer.all_up = SpreadOf(question.pool, all_up_shares, *all_up);
  answer.before = SpreadOf(question.pool, before_shares, *before);
  answer.now = SpreadOf(question.pool, now_shares, *now);
  answer.moves = MovesBetween({before_shares, *before}, {now_shares, *now});
  return answer;
}

size_t DrainedAndNotDown(const Question& question) {
  return static_cast<size_t>(std::count_if(question.drained.begin(), question.drained.end(),
                                           [&](size_t i) { return !question.down.contains(i); }));
}

// Names and numbers, for JSON and YAML.
std::vector<std::pair<std::string, std::string>> Fields(const Question& question,
                                                        const Answer& answer) {
  const Moves& moves = answer.moves;
  return {{"size", absl::StrCat(question.size)},
          {"backends", absl::StrCat(question.pool.size())},
          {"down", absl::StrCat(question.down.size())},
          {"drained", absl::StrCat(DrainedAndNotDown(question))},
          {"live", absl::StrCat(answer.now.live)},
          {"build_us", absl::StrCat(answer.build_us)},
          {"repair_us", absl::StrCat(answer.repair_us)},
          {"slots_min", absl::StrCat(answer.now.slots_min)},
          {"slots_max", absl::StrCat(answer.now.slots_max)},
          {"over_provision", absl::StrFormat("%.6f", answer.now.over_provision)},
          {"moved", absl::StrCat(moves.necessary + moves.collateral)},
          {"moved_necessary", absl::StrCat(moves.necessary)},
          {"moved_collateral", absl::StrCat(moves.collateral)}};
}

std::string MovesText(const Question& question, const Moves& moves) {
  const uint32_t moved = moves.necessary + moves.collateral;
  if (moved == 0) return "no slots move";
  return absl::StrCat(moved, " of ", question.size, " slots (",
                      HumanPercent(1.0 * moved / question.size), ") move, ",
                      moves.collateral == 0 ? "all of them because they had to"
                                            : absl::StrCat(moves.collateral, " without need"));
}

void ShowTable(const Call& call, const Question& question, const Answer& answer) {
  const size_t backends = question.pool.size();
  std::cout << question.subject << ": " << question.size << " slots for "
            << Counted(backends, "backend");
  if (backends > 1) std::cout << ", " << question.size / backends << " for each on average";
  std::cout << "\nbuilt in " << answer.build_us << " µs";
  if (answer.now.live < backends) {
    std::cout << ", repaired in " << answer.repair_us << " µs for the backends that are down";
  }
  std::cout << "\n\n";

  using Align = Table::Align;
  Table states({{"STATE"},
                {"TAKE CONNECTIONS", Align::kRight},
                {"FEWEST SLOTS", Align::kRight},
                {"MOST", Align::kRight},
                {"BUSIEST OVER FAIR SHARE", Align::kRight}});
  const auto add = [&](const std::string& state, const Spread& spread) {
    states.Add({state,
                {absl::StrCat(spread.live), spread.live == 0 ? Colour::kRed : Colour::kNone},
                absl::StrCat(spread.slots_min),
                absl::StrCat(spread.slots_max),
                spread.live == 0 ? "-" : absl::StrFormat("%.1f%%", spread.over_provision * 100)});
  };
  add("nobody down", answer.all_up);
  if (!question.was_down.empty()) {
    add(absl::StrCat("before: ", question.was_down.size(), " down"), answer.before);
  }
  if (!question.was_down.empty() || !question.down.empty()) {
    add(absl::StrCat("now: ", question.down.size(), " down"), answer.now);
  }
  std::cout << states.Render(call.terminal) << "\n" << MovesText(question, answer.moves) << "\n";
}

void Show(const Call& call, const Question& question, const Answer& answer) {
  if (call.format == Format::kTable) return ShowTable(call, question, answer);
  const bool is_json = call.format == Format::kJson;
  const std::string lines = absl::StrJoin(
      Fields(question, answer), is_json ? ",\n" : "\n", [&](std::string* out, const auto& field) {
        if (is_json) {
          absl::StrAppend(out, " \"", field.first, "\": ", field.second);
        } else {
          absl::StrAppend(out, field.first, ": ", field.second);
        }
      });
  std::cout << (is_json ? "{\n" : "") << lines << (is_json ? "\n}\n" : "\n");
}

int RunTable(const Call& call) {
  const bool is_file = call.Has("config") || call.Has("service") || call.Has("region");
  for (const char* made_up : {"backends", "size", "weights", "seed"}) {
    if (is_file && call.Has(made_up)) {
      return Wrong(
          absl::StrCat("--", made_up, " makes up a pool; a service of a file has its own"));
    }
  }
  if (!is_file && !call.Has("backends") && !call.Has("size")) {
    return Wrong("table needs --config FILE --service NAME, or --backends N --size M");
  }
  Question question;
  const int status = is_file ? AskFile(call, &question) : AskMadeUp(call, &question);
  if (status != kYes) return status;
  const absl::StatusOr<Answer> answer = Measure(question);
  if (!answer.ok()) return No(answer.status());
  Show(call, question, *answer);
  if (answer->now.live > 0) return kYes;
  return No(absl::FailedPreconditionError(
      absl::StrCat("nobody takes new connections of ", question.subject, ": of ",
                   Counted(question.pool.size(), "backend"), " ", question.down.size(), " down, ",
                   DrainedAndNotDown(question), " drained, none of the others with a weight",
                   question.fallback.empty()
                       ? ""
                       : absl::StrCat("; its clients go to the first of these that serves: ",
                                      question.fallback))));
}

}  // namespace

Verb TableVerb() {
  return {"table", "",      false, 0, RunTable, "what a lookup table is like when backends fail",
          kHelp,   kOptions};
}

}  // namespace guideway
