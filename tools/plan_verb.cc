// `guideway plan`: what a change of configuration would do.
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "control/api/api.pb.h"
#include "control/config/config.h"
#include "control/plan.h"
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
  if (change.from().empty()) return absl::StrCat(change.key(), ": now ", change.to());
  if (change.to().empty()) return absl::StrCat(change.key(), ": no longer ", change.from());
  return absl::StrCat(change.key(), ": ", change.from(), ", now ", change.to());
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
              << " on backends that go away\n";
  }
  for (const std::string& key : plan.needs_restart()) {
    std::cout << Coloured("takes a restart: ", Colour::kYellow, terminal) << key
              << " cannot change while guidewayd runs\n";
  }
}

int RunPlan(const Call& call) {
  const absl::StatusOr<Offline> before = LoadOffline(call.args[0], {});
  const absl::StatusOr<Offline> after = LoadOffline(call.args[1], {});
  for (const auto* side : {&before, &after}) {
    if (!side->ok()) return No(side->status());
  }
  api::Plan plan = MakePlan({&before->loaded->config, before->snapshot.get()},
                            {&after->loaded->config, after->snapshot.get()},
                            [](BackendId) { return uint64_t{0}; });
  for (const std::string& warning : after->loaded->warnings) plan.add_warnings(warning);
  if (ShowMessage(call, plan)) return kYes;
  ShowPlan(plan, call.terminal);
  for (const std::string& warning : plan.warnings()) std::cerr << "warning: " << warning << "\n";
  return kYes;
}

}  // namespace

Verb PlanVerb() {
  return {
      "plan",
      "OLD NEW",
      false,
      2,
      RunPlan,
      "what a change of configuration would do",
      "Compares two configurations: services and backends that are added, removed or changed,\n"
      "and of each service the share of new connections that goes to another backend than\n"
      "before, and the least that could. All backends are taken to be up. Exit status 1 if one\n"
      "of the files is no valid configuration.\n\n"
      "  guideway plan /etc/guideway.yaml new.yaml"};
}

}  // namespace guideway
