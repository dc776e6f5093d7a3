// `guideway plan`, `apply` and `rollback`: changes of configuration, and what they would do.
#include <algorithm>
#include <iostream>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "control/api/api.pb.h"
#include "control/plan.h"
#include "tools/api_client.h"
#include "tools/configuration.h"
#include "tools/offline.h"
#include "tools/shares.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

Colour ColourOf(absl::string_view change) {
  if (change == "added") return Colour::kGreen;
  if (change == "removed") return Colour::kRed;
  return change == "changed" ? Colour::kYellow : Colour::kDim;
}

// «weight: 100, now 50»
std::string Text(const api::Change& change) {
  if (!change.contents().empty()) return absl::StrCat(change.key(), ": ", change.contents());
  if (change.from().empty()) return absl::StrCat(change.key(), ": now ", change.to());
  if (change.to().empty()) return absl::StrCat(change.key(), ": no longer ", change.from());
  return absl::StrCat(change.key(), ": ", change.from(), ", now ", change.to());
}

// «drain web/web-1, weight web/web-2 50 and 3 more»
std::string Text(const google::protobuf::RepeatedPtrField<api::Override>& overrides) {
  constexpr size_t kShown = 20;
  std::vector<std::string> texts;
  for (const api::Override& one : overrides) {
    const std::string name = absl::StrCat(one.service(), "/", one.backend());
    if (one.drained()) texts.push_back(absl::StrCat("drain ", name));
    if (one.has_weight()) texts.push_back(absl::StrCat("weight ", name, " ", one.weight()));
  }
  const size_t more = texts.size() > kShown ? texts.size() - kShown : 0;
  texts.resize(texts.size() - more);
  return absl::StrCat(absl::StrJoin(texts, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
}

std::string OpenText(uint64_t open) {
  return open == 0 ? "" : absl::StrCat(", with ", Counted(open, "open connection"));
}

// How much of a plan is shown.
struct Detail {
  size_t services;  // at most
  int backends;     // at most, of each service
  bool is_done;     // it is in force
};
constexpr Detail kAll = {
    .services = std::numeric_limits<size_t>::max(), .backends = 50, .is_done = false};
constexpr Detail kDone = {.services = 20, .backends = 10, .is_done = true};

// Names that a sentence has room for.
constexpr size_t kNames = 5;

// Who takes a service's new connections, a line for each region.
void ShowShares(const api::ServicePlan& service, const Detail& detail, const Terminal& terminal) {
  const auto show = [&](const std::string& region, const std::string& served_by) {
    const PoolShares pool = {service.name(), region, served_by, service.shares()};
    std::vector<std::string> presumed;
    for (const api::BackendPlan& backend : service.backends()) {
      if (backend.presumed_up() && pool.Has(backend.name())) presumed.push_back(backend.name());
    }
    const std::string text =
        absl::StrCat(pool.Text(detail.is_done && presumed.empty() ? "now" : "then"),
                     presumed.empty() ? ""
                                      : absl::StrCat(", once ", Listed(presumed, kNames),
                                                     presumed.size() == 1 ? " is" : " are", " up"));
    std::cout << "  "
              << (pool.dropped() ? Coloured(absl::StrCat("! ", text), Colour::kRed, terminal)
                                 : text)
              << "\n";
  };
  if (service.regions().empty()) show("", "");
  for (const api::Region& region : service.regions()) show(region.name(), region.served_by());
}

void Show(const api::ServicePlan& service, const Detail& detail, const Terminal& terminal) {
  std::cout << Coloured(absl::StrCat("service ", service.name(), " ", service.change()),
                        ColourOf(service.change()), terminal)
            << "\n";
  for (const api::Change& change : service.settings()) std::cout << "  " << Text(change) << "\n";
  for (int i = 0; i < std::min(detail.backends, service.backends_size()); ++i) {
    const api::BackendPlan& backend = service.backends(i);
    std::vector<std::string> settings;
    for (const api::Change& change : backend.settings()) settings.push_back(Text(change));
    std::cout << "  "
              << Coloured(absl::StrCat("backend ", backend.name(), " ", backend.change()),
                          ColourOf(backend.change()), terminal)
              << (settings.empty() ? "" : ": ") << absl::StrJoin(settings, "; ")
              << OpenText(backend.open_connections()) << "\n";
  }
  if (service.backends_size() > detail.backends) {
    std::cout << "  and " << Counted(service.backends_size() - detail.backends, "more backend")
              << "\n";
  }
  if (service.change() != "added" && service.change() != "removed") {
    std::cout << "  " << HumanPercent(service.moved()) << " of new connections move; "
              << HumanPercent(service.moved_necessary()) << " have to\n";
    if (service.new_connections_dropped() || !service.shares().empty())
      ShowShares(service, detail, terminal);
  }
  for (const std::string& note : service.notes()) std::cout << "  " << note << "\n";
}

// What lets the connections end that are open at backends which leave a service that stays, or
// become other servers.
std::string HowTheyEnd(const api::Plan& plan) {
  std::vector<std::string> to_drain, wait_for;
  uint64_t open = 0;
  for (const api::ServicePlan& service : plan.services()) {
    if (service.change() == "removed") continue;
    for (const api::BackendPlan& backend : service.backends()) {
      if (backend.open_connections() == 0) continue;
      open += backend.open_connections();
      (backend.takes_none() ? wait_for : to_drain)
          .push_back(absl::StrCat(service.name(), "/", backend.name()));
    }
  }
  if (open == 0) return "";
  const std::string whose =
      open == plan.open_connections() ? "" : absl::StrCat(" ", open, " of them");
  if (!to_drain.empty()) {
    return absl::StrCat(
        "; to let", whose.empty() ? " them" : whose, " end, first `guideway drain ", to_drain[0],
        "`",
        to_drain.size() == 1
            ? ""
            : absl::StrCat(", likewise ", Listed({to_drain.begin() + 1, to_drain.end()}, kNames),
                           ","),
        " and wait until `guideway get backends` says 0 open");
  }
  return absl::StrCat("; ", Listed(wait_for, kNames), wait_for.size() == 1 ? " takes" : " take",
                      " no new ones: wait until `guideway get backends` says 0 open");
}

void ShowCut(const api::Plan& plan, const Detail& detail) {
  const uint64_t open = plan.open_connections();
  if (open == 0) return;
  std::cout << Counted(open, "open connection");
  if (detail.is_done) {
    std::cout << (open == 1 ? " was cut\n" : " were cut\n");
    return;
  }
  std::cout << (open == 1 ? " is cut" : " are cut")
            << ": what they send next is reset by other backends, or dropped" << HowTheyEnd(plan)
            << "\n";
}

// Those that are removed, then those that move most.
void SortByLoss(std::vector<const api::ServicePlan*>* services) {
  const auto loss = [](const api::ServicePlan* service) {
    return std::make_pair(service->change() == "removed", service->moved_at_most());
  };
  std::stable_sort(services->begin(), services->end(),
                   [&](const auto* a, const auto* b) { return loss(a) > loss(b); });
}

// «and 6 more services: 4 added, 2 changed, with at most 33.3% of new connections moved»
std::string RestText(absl::Span<const api::ServicePlan* const> services) {
  size_t removed = 0, added = 0, stay = 0;
  double moved = 0;  // the most of those that stay
  for (const api::ServicePlan* service : services) {
    ++(service->change() == "removed" ? removed : service->change() == "added" ? added : stay);
    moved = std::max(moved, service->moved_at_most());
  }
  std::vector<std::string> parts;
  if (removed > 0) parts.push_back(absl::StrCat(removed, " removed"));
  if (added > 0) parts.push_back(absl::StrCat(added, " added"));
  if (stay > 0) {
    parts.push_back(absl::StrCat(stay, " changed, with at most ", HumanPercent(moved),
                                 " of new connections moved"));
  }
  return absl::StrCat("and ", Counted(services.size(), "more service"), ": ",
                      absl::StrJoin(parts, ", "));
}

void ShowPlan(const api::Plan& plan, const Detail& detail, const Terminal& terminal) {
  if (!plan.changes()) {
    std::cout << (detail.is_done ? "nothing has changed\n" : "nothing changes\n");
    return;
  }
  for (const std::string& note : plan.notes()) {
    std::cout << Coloured(note, Colour::kYellow, terminal) << "\n";
  }
  for (const api::Change& change : plan.settings()) std::cout << Text(change) << "\n";
  if (!plan.overrides_undone().empty()) {
    std::cout << Coloured(absl::StrCat("no longer by hand: ", Text(plan.overrides_undone())),
                          Colour::kYellow, terminal)
              << "\n";
  }
  if (!plan.overrides_restored().empty()) {
    std::cout << Coloured(absl::StrCat("by hand again: ", Text(plan.overrides_restored())),
                          Colour::kYellow, terminal)
              << "\n";
  }
  uint64_t unchanged = 0;
  std::vector<const api::ServicePlan*> services;
  for (const api::ServicePlan& service : plan.services()) {
    if (service.change() == "unchanged" && service.moved() == 0) {
      ++unchanged;
    } else {
      services.push_back(&service);
    }
  }
  if (detail.is_done) SortByLoss(&services);
  const size_t shown = std::min(services.size(), detail.services);
  for (size_t i = 0; i < shown; ++i) Show(*services[i], detail, terminal);
  if (shown < services.size()) {
    std::cout << RestText(absl::MakeSpan(services).subspan(shown)) << "\n";
  }
  if (unchanged > 0) std::cout << Counted(unchanged, "service") << " unchanged\n";
  ShowCut(plan, detail);
  for (const std::string& key : plan.needs_restart()) {
    std::cout << Coloured("takes a restart: ", Colour::kYellow, terminal) << key
              << " cannot change while guidewayd runs\n";
  }
  for (const std::string& line : plan.host_cannot()) {
    std::cout << Coloured("and would fail after one: ", Colour::kRed, terminal) << Printable(line)
              << "\n";
  }
}

// Shows a plan, and `next`, the call that would do it, if there is one. What a running daemon would
// refuse is a «no».
int Show(const Call& call, const api::Plan& plan, const std::string& next) {
  const bool refused = !plan.needs_restart().empty();
  const int status = refused ? kNo : kYes;
  if (ShowMessage(call, plan)) return status;
  ShowPlan(plan, kAll, call.terminal);
  ShowWarnings(plan.warnings());
  if (refused) {
    std::cerr << "a running guidewayd refuses this, for it takes a restart: exit status 1\n";
  } else if (plan.changes() && !next.empty()) {
    std::cout << "to do it: " << next << "\n";
  }
  return status;
}

// --- plan ----------------------------------------------------------------------------------------

constexpr Option kPlanOptions[] = {
    {"discard-overrides", "", "with one file: as if drains and weights by hand were undone, too"},
};

// Against what is in force.
int Live(const Call& call) {
  const std::string& file = call.args[0];
  absl::StatusOr<NamedText> read = ReadConfiguration(file);
  if (!read.ok()) return No(read.status());
  const bool discards = call.Has("discard-overrides");
  api::Plan plan;
  const absl::Status s = ApiClient(call.socket)
                             .PostFile(discards ? "/v1/plan?discard_overrides=true" : "/v1/plan",
                                       read->name, std::move(read->text), &plan);
  if (!s.ok()) return No(s);
  // What came from a pipe is gone.
  return Show(call, plan,
              file == "-"
                  ? ""
                  : absl::StrCat("guideway apply ", discards ? "--discard-overrides " : "", file));
}

int RunPlan(const Call& call) {
  if (call.args.size() == 1) return Live(call);
  if (call.args.size() > 2) {
    return WrongCall(absl::StrCat("\"", call.args[2], "\" is one argument too many for plan"),
                     "plan");
  }
  if (call.Has("discard-overrides")) {
    return WrongCall("--discard-overrides has no effect with two files", "plan");
  }
  if (call.args[0] == "-" && call.args[1] == "-") {
    return WrongCall("standard input can be only one of the two", "plan");
  }
  const absl::StatusOr<Offline> before = LoadOffline(call.args[0], {});
  const absl::StatusOr<Offline> after = LoadOffline(call.args[1], {});
  for (const auto* side : {&before, &after}) {
    if (!side->ok()) return No(side->status());
  }
  const std::string &file_before = call.args[0], &file_after = call.args[1];
  const auto files_before = ReadNamedFiles(before->loaded->config, file_before);
  const auto files_after = ReadNamedFiles(after->loaded->config, file_after);
  api::Plan plan =
      MakePlan({&before->loaded->config, before->snapshot.get(), &files_before, file_before},
               {&after->loaded->config, after->snapshot.get(), &files_after, file_after},
               [](BackendId) { return uint64_t{0}; });
  for (const std::string& warning : after->loaded->warnings) plan.add_warnings(warning);
  const int status = Show(call, plan, "");
  const bool leave = std::any_of(
      plan.services().begin(), plan.services().end(), [](const api::ServicePlan& service) {
        return std::any_of(service.backends().begin(), service.backends().end(),
                           [](const api::BackendPlan& b) { return b.change() == "removed"; });
      });
  if (leave && call.format == Format::kTable) {
    std::cout << "open connections of backends that leave are cut; how many there are only a "
                 "running guidewayd knows: guideway plan "
              << file_after << "\n";
  }
  return status;
}

// --- apply, rollback -----------------------------------------------------------------------------

// «2%», «0.5%»: the share as a query has it. Nothing if it is none.
std::optional<std::string> ReadPercent(absl::string_view text) {
  double percent = 0;
  if (!absl::ConsumeSuffix(&text, "%") || !absl::SimpleAtod(text, &percent) ||
      !(percent >= 0 && percent <= 100)) {
    return std::nullopt;
  }
  return absl::StrFormat("%.17g", percent / 100);
}

std::string WhyNoPercent(const std::string& text) {
  if (ReadPercent(text)) return "";
  double number = 0;
  const std::string as_percent = absl::StrCat(text, "%");
  const std::string none = "not a share from 0% to 100%, written like 2%";
  if (!ReadPercent(as_percent) || !absl::SimpleAtod(text, &number)) return none;
  if (number > 0 && number < 1) {
    return absl::StrCat(none, "; did you mean ", absl::StrFormat("%g%%", number * 100), ", or ",
                        as_percent, "?");
  }
  return absl::StrCat(none, "; did you mean ", as_percent, "?");
}

constexpr Option kMaxMoved = {
    .name = "max-moved",
    .argument = "SHARE",
    .help = "refuse if more of a service's new connections would move: 2%",
    .why_none = WhyNoPercent};

constexpr Option kApplyOptions[] = {
    kMaxMoved,
    {"discard-overrides", "", "undo drains and weights by hand, too"},
};

constexpr Option kRollbackOptions[] = {
    kMaxMoved,
    {"dry-run", "", "only say what it would do, as plan does"},
};

void AddMaxMoved(const Call& call, std::vector<std::string>* query) {
  for (const std::string& value : call.Values(std::string(kMaxMoved.name))) {
    query->push_back(QueryPart("max_moved", ReadPercent(value).value()));
  }
}

std::string PathOf(absl::string_view path, const std::vector<std::string>& query) {
  return absl::StrCat(path, query.empty() ? "" : "?", absl::StrJoin(query, "&"));
}

// What is in force now, told in `sentence`.
int ShowDone(const Call& call, const api::ApplyResult& result, const std::string& sentence) {
  if (ShowMessage(call, result)) return kYes;
  ShowWarnings(result.warnings());
  std::cout << sentence << "\n";
  if (result.has_plan()) ShowPlan(result.plan(), kDone, call.terminal);
  return kYes;
}

int RunApply(const Call& call) {
  std::vector<std::string> query;
  if (call.Has("discard-overrides")) query.push_back("discard_overrides=true");
  AddMaxMoved(call, &query);
  absl::StatusOr<NamedText> read = ReadConfiguration(call.args[0]);
  if (!read.ok()) return No(read.status());
  api::ApplyResult result;
  const absl::Status s =
      ApiClient(call.socket)
          .PostFile(PathOf("/v1/apply", query), read->name, std::move(read->text), &result);
  if (!s.ok()) return No(s);
  return ShowDone(call, result,
                  absl::StrCat(read->name, " is in force as revision ", result.revision()));
}

int PlanRollback(const Call& call, uint64_t number) {
  if (call.Has("max-moved")) {
    return WrongCall("--max-moved has no effect with --dry-run", "rollback");
  }
  api::Plan plan;
  const absl::Status s =
      ApiClient(call.socket).PostFile(absl::StrCat("/v1/plan?revision=", number), "", "", &plan);
  if (!s.ok()) return Refused(s, "rollback");
  if (call.format == Format::kTable) {
    std::cout << "a rollback to revision " << plan.rolled_back_to() << ":\n";
  }
  return Show(call, plan, absl::StrCat("guideway rollback ", plan.rolled_back_to()));
}

int RunRollback(const Call& call) {
  uint64_t number = 0;
  if (!ReadRevision(call, "rollback", &number)) return kWrongCall;
  if (call.Has("dry-run")) return PlanRollback(call, number);
  api::RevisionRef ref;
  ref.set_revision(number);
  std::vector<std::string> query;
  AddMaxMoved(call, &query);
  api::ApplyResult result;
  const absl::Status s = ApiClient(call.socket).Post(PathOf("/v1/rollback", query), ref, &result);
  if (!s.ok()) return Refused(s, "rollback");
  return ShowDone(call, result,
                  absl::StrCat("revision ", result.rolled_back_to(),
                               " is in force again, configuration and overrides, as revision ",
                               result.revision()));
}

}  // namespace

Verb PlanVerb() {
  return {
      .name = "plan",
      .arguments = "OLD NEW",
      .live = false,
      .arguments_count = 1,
      .run = RunPlan,
      .summary = "what a change of configuration would do",
      .help =
          "Says what a file would change: services and backends that are added, removed or\n"
          "changed, and of each service the share of new connections that goes to another\n"
          "backend than before, and the least that could. Nothing is changed by it.\n\n"
          "plan FILE asks the running daemon: against what it has in force, with the health of "
          "the\n"
          "moment (backends that are new are taken to be up), and with the open connections that\n"
          "would be cut. plan OLD NEW compares two files without a daemon, and takes all to be "
          "up.\n"
          "Changes in files that the configuration names are told, too; of keys only that they\n"
          "change.\n\n"
          "Exit status 1 if a file is no valid configuration, or if a running daemon would refuse\n"
          "the change because it takes a restart (interfaces, workers, memory, control, hash "
          "seed).\n\n"
          "- is standard input. Files that it names are looked for where the command runs, with\n"
          "one file beside the daemon's own configuration.\n\n"
          "  guideway plan new.yaml\n"
          "  guideway plan /etc/guideway.yaml new.yaml\n"
          "  guideway history 12 | guideway plan - /etc/guideway.yaml",
      .options = kPlanOptions,
      .more_arguments = true,
      .live_arguments = "FILE"};
}

Verb ApplyVerb() {
  return {
      .name = "apply",
      .arguments = "FILE",
      .live = true,
      .arguments_count = 1,
      .run = RunApply,
      .summary = "put a configuration in force, all or nothing",
      .help =
          "Sends a configuration to the daemon, waits until it is in force, and says what that "
          "has\n"
          "changed, as plan says it before. If anything in it is refused nothing changes and the "
          "exit\n"
          "status is 1. The file the daemon was started with stays as it is: a SIGHUP goes back "
          "to\n"
          "that one, and so does a restart if the file has changed since. What was done by hand\n"
          "stays, unless it is discarded.\n\n"
          "- is standard input. Files that the configuration names are the daemon's: relative "
          "names\n"
          "start at the directory of the file that it was started with.\n\n"
          "With --max-moved the daemon plans the change first, and refuses it if a larger share "
          "of\n"
          "the new connections of any service would go to another backend than before.\n\n"
          "  guideway apply new.yaml\n"
          "  guideway apply --max-moved 2% new.yaml\n"
          "  guideway apply --discard-overrides new.yaml\n"
          "  ssh lb-1 guideway apply - < new.yaml",
      .options = kApplyOptions};
}

Verb RollbackVerb() {
  return {
      .name = "rollback",
      .arguments = "[REVISION]",
      .live = true,
      .arguments_count = 0,
      .run = RunRollback,
      .summary = "put a revision in force again",
      .help =
          "Puts a revision in force again, its configuration and its overrides, as a new "
          "revision.\n"
          "The files that the configuration names are what they were then. Without REVISION: the\n"
          "newest with another configuration than the one in force, so that a second rollback "
          "undoes\n"
          "the first. All or nothing: what is refused changes nothing, exit status 1.\n\n"
          "--dry-run says what it would change, as plan does of a file. --max-moved is as of "
          "apply.\n\n"
          "  guideway rollback\n"
          "  guideway rollback --dry-run 12\n"
          "  guideway rollback --max-moved 2% 12",
      .options = kRollbackOptions,
      .more_arguments = true};
}

}  // namespace guideway
