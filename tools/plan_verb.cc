// `guideway plan`: what a change of configuration would do.
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "control/api/api.pb.h"
#include "control/plan.h"
#include "tools/api_client.h"
#include "tools/configuration.h"
#include "tools/offline.h"
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

// What becomes of what was done by hand, a part each.
void AddOverrides(const api::Plan& plan, std::vector<std::string>* parts) {
  if (!plan.overrides_undone().empty()) {
    parts->push_back(absl::StrCat("no longer by hand: ", Text(plan.overrides_undone())));
  }
  if (!plan.overrides_restored().empty()) {
    parts->push_back(absl::StrCat("by hand again: ", Text(plan.overrides_restored())));
  }
}

std::string OpenText(uint64_t open) {
  return open == 0 ? "" : absl::StrCat(", with ", Counted(open, "open connection"));
}

void Show(const api::ServicePlan& service, const Terminal& terminal) {
  std::cout << Coloured(absl::StrCat("service ", service.name(), " ", service.change()),
                        ColourOf(service.change()), terminal)
            << "\n";
  for (const api::Change& change : service.settings()) std::cout << "  " << Text(change) << "\n";
  constexpr int kShown = 50;
  for (int i = 0; i < std::min(kShown, service.backends_size()); ++i) {
    const api::BackendPlan& backend = service.backends(i);
    std::vector<std::string> settings;
    for (const api::Change& change : backend.settings()) settings.push_back(Text(change));
    std::cout << "  "
              << Coloured(absl::StrCat("backend ", backend.name(), " ", backend.change()),
                          ColourOf(backend.change()), terminal)
              << (settings.empty() ? "" : ": ") << absl::StrJoin(settings, "; ")
              << OpenText(backend.open_connections()) << "\n";
  }
  if (service.backends_size() > kShown) {
    std::cout << "  and " << Counted(service.backends_size() - kShown, "more backend") << "\n";
  }
  if (service.change() != "added" && service.change() != "removed") {
    std::cout << "  " << HumanPercent(service.moved()) << " of new connections move; "
              << HumanPercent(service.moved_necessary()) << " have to\n";
  }
  for (const std::string& note : service.notes()) std::cout << "  " << note << "\n";
}

void ShowPlan(const api::Plan& plan, const Terminal& terminal) {
  if (!plan.changes()) {
    std::cout << "nothing changes\n";
    return;
  }
  for (const std::string& note : plan.notes()) {
    std::cout << Coloured(note, Colour::kYellow, terminal) << "\n";
  }
  for (const api::Change& change : plan.settings()) std::cout << Text(change) << "\n";
  std::vector<std::string> overrides;
  AddOverrides(plan, &overrides);
  for (const std::string& what : overrides) {
    std::cout << Coloured(what, Colour::kYellow, terminal) << "\n";
  }
  uint64_t unchanged = 0;
  for (const api::ServicePlan& service : plan.services()) {
    if (service.change() == "unchanged" && service.moved() == 0) {
      ++unchanged;
    } else {
      Show(service, terminal);
    }
  }
  if (unchanged > 0) std::cout << Counted(unchanged, "service") << " unchanged\n";
  if (plan.open_connections() > 0) {
    std::cout << Counted(plan.open_connections(), "open connection")
              << (plan.open_connections() == 1 ? " is cut\n" : " are cut\n");
  }
  for (const std::string& key : plan.needs_restart()) {
    std::cout << Coloured("takes a restart: ", Colour::kYellow, terminal) << key
              << " cannot change while guidewayd runs\n";
  }
  for (const std::string& line : plan.host_cannot()) {
    std::cout << Coloured("and would fail after one: ", Colour::kRed, terminal) << Printable(line)
              << "\n";
  }
}

// What a running daemon would refuse is a «no».
int Show(const Call& call, const api::Plan& plan) {
  const int status = plan.needs_restart().empty() ? kYes : kNo;
  if (ShowMessage(call, plan)) return status;
  ShowPlan(plan, call.terminal);
  for (const std::string& warning : plan.warnings()) std::cerr << "warning: " << warning << "\n";
  return status;
}

constexpr Option kOptions[] = {
    {"discard-overrides", "", "with one file: as if drains and weights by hand were undone, too"},
};

// Against what is in force.
int Live(const Call& call) {
  absl::StatusOr<NamedText> read = ReadConfiguration(call.args[0]);
  if (!read.ok()) return No(read.status());
  api::Plan plan;
  const absl::Status s =
      ApiClient(call.socket)
          .PostFile(call.Has("discard-overrides") ? "/v1/plan?discard_overrides=true" : "/v1/plan",
                    read->name, std::move(read->text), &plan);
  return s.ok() ? Show(call, plan) : No(s);
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
  return Show(call, plan);
}

// «2 backends added»
void Add(uint64_t n, absl::string_view noun, absl::string_view what,
         std::vector<std::string>* parts) {
  if (n > 0) parts->push_back(absl::StrCat(Counted(n, noun), " ", what));
}

}  // namespace

std::string PlanSummary(const api::Plan& plan) {
  if (!plan.changes()) return "nothing changes";
  constexpr absl::string_view kChanges[] = {"added", "removed", "changed"};
  std::vector<std::string> parts;
  for (const absl::string_view change : kChanges) {
    Add(std::count_if(plan.services().begin(), plan.services().end(),
                      [&](const api::ServicePlan& s) { return s.change() == change; }),
        "service", change, &parts);
  }
  for (const absl::string_view change : kChanges) {
    uint64_t n = 0;
    for (const api::ServicePlan& service : plan.services()) {
      if (service.change() != "changed") continue;
      n += std::count_if(service.backends().begin(), service.backends().end(),
                         [&](const api::BackendPlan& b) { return b.change() == change; });
    }
    Add(n, "backend", change, &parts);
  }
  Add(plan.settings_size(), "setting", "changed", &parts);
  const auto most = std::max_element(
      plan.services().begin(), plan.services().end(),
      [](const api::ServicePlan& a, const api::ServicePlan& b) { return a.moved() < b.moved(); });
  if (most != plan.services().end() && most->moved() > 0) {
    parts.push_back(absl::StrCat(HumanPercent(most->moved()), " of ", most->name(),
                                 "'s new connections move",
                                 plan.services_size() > 1 ? ", the most of any service's" : ""));
  }
  if (plan.newly_denied_ipv4() + plan.newly_denied_ipv6() > 0) {
    parts.push_back("more addresses are denied");
  }
  Add(plan.open_connections(), "open connection", "cut", &parts);
  AddOverrides(plan, &parts);
  return absl::StrJoin(parts, "; ");
}

Verb PlanVerb() {
  return {
      .name = "plan",
      .arguments = "[OLD] NEW",
      .live = false,
      .arguments_count = 1,
      .run = RunPlan,
      .summary = "what a change of configuration would do",
      .help =
          "Says what a file would change: services and backends that are added, removed or\n"
          "changed, and of each service the share of new connections that goes to another\n"
          "backend than before, and the least that could. Nothing is changed by it.\n\n"
          "With one file: against what the running daemon has in force, with the health of the\n"
          "moment (backends that are new are taken to be up), and with the open connections that\n"
          "would be cut. With two it needs no daemon, and takes all to be up. Changes in files "
          "that\n"
          "the configuration names are told, too; of keys only that they change.\n\n"
          "Exit status 1 if a file is no valid configuration, or if a running daemon would refuse\n"
          "the change because it takes a restart.\n\n"
          "- is standard input. Files that it names are looked for where the command runs, with\n"
          "one file beside the daemon's own configuration.\n\n"
          "  guideway plan new.yaml\n"
          "  guideway plan /etc/guideway.yaml new.yaml\n"
          "  guideway history 12 | guideway plan - /etc/guideway.yaml",
      .options = kOptions,
      .more_arguments = true,
      .also_live = true};
}

}  // namespace guideway
