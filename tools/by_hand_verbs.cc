// `guideway drain`, `undrain` and `weight`: one backend by hand.
#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"
#include "tools/api_client.h"
#include "tools/shares.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

std::string NameOf(const api::Backend& backend) {
  return absl::StrCat(backend.service(), "/", backend.name());
}

// What may have been meant by a name without a slash: «; did you mean web/web-2?», «; service web
// has web/web-1, web/web-2 and 3 more». Empty: nothing, or nobody answers.
std::string Meant(const Call& call) {
  constexpr size_t kShown = 20;
  const std::string& word = call.args[0];
  api::BackendList list;
  if (!ApiClient(call.socket, absl::Seconds(2)).Get("/v1/backends", &list).ok()) return "";
  std::vector<std::string> of_service, named;
  for (const api::Backend& backend : list.backends()) {
    if (backend.service() == word) of_service.push_back(NameOf(backend));
    if (backend.name() == word) named.push_back(NameOf(backend));
  }
  if (of_service.empty() && named.size() == 1) {
    return absl::StrCat("; did you mean ", named[0], "?");
  }
  std::vector<std::string>& names = of_service.empty() ? named : of_service;
  if (names.empty()) return "";
  return absl::StrCat("; ",
                      of_service.empty() ? "there are " : absl::StrCat("service ", word, " has "),
                      Listed(names, kShown));
}

// The backend that a call names; a Ref is a BackendRef or what has its fields. False: it was a
// wrong call.
template <typename Ref>
bool ReadBackend(const Call& call, absl::string_view verb, Ref* ref) {
  const std::vector<std::string> parts = absl::StrSplit(call.args[0], absl::MaxSplits('/', 1));
  if (parts.size() != 2 || parts[0].empty() || parts[1].empty()) {
    WrongCall(absl::StrCat("\"", call.args[0], "\" is not SERVICE/BACKEND",
                           parts.size() == 1 ? Meant(call) : ""),
              verb);
    return false;
  }
  ref->set_service(parts[0]);
  ref->set_backend(parts[1]);
  return true;
}

const api::Backend* Find(const api::BackendList& list, absl::string_view name) {
  for (const api::Backend& b : list.backends()) {
    if (NameOf(b) == name) return &b;
  }
  return nullptr;
}

// A change by hand that was made.
struct Made {
  api::Backend is;   // with `by_hand`
  api::Backend was;  // the moment before
  PoolShares pool;   // that it is of
};

// The region whose backends take those new connections that the backend's region has.
absl::StatusOr<std::string> ServedBy(ApiClient& client, const api::Backend& backend) {
  if (backend.region().empty()) return "";
  api::ServiceList list;
  if (absl::Status s = client.Get("/v1/services", &list); !s.ok()) return s;
  for (const api::Service& service : list.services()) {
    if (service.name() != backend.service()) continue;
    for (const api::Region& region : service.regions()) {
      if (region.name() == backend.region()) return region.served_by();
    }
  }
  return absl::NotFoundError(
      absl::StrCat("guidewayd does not say who serves region ", backend.region()));
}

// Reads what came of the change; `made` is untouched if it cannot.
absl::Status ReadWhatCameOfIt(ApiClient& client, const std::string& name, Made* made) {
  api::BackendList list;
  if (absl::Status s = client.Get("/v1/backends", &list); !s.ok()) return s;
  const api::Backend* is = Find(list, name);
  if (is == nullptr) return absl::NotFoundError("another change has removed it since");
  absl::StatusOr<std::string> served_by = ServedBy(client, *is);
  if (!served_by.ok()) return served_by.status();
  made->is = *is;
  made->pool = {is->service(), is->region(), *std::move(served_by), {}};
  for (const api::Backend& b : list.backends()) {
    if (b.service() != is->service() || b.region() != made->pool.served_by) continue;
    if (b.share() <= 0) continue;
    api::BackendShare* share = made->pool.shares.Add();
    share->set_name(b.name());
    share->set_region(b.region());
    share->set_share(b.share());
  }
  if (!made->pool.served_by.empty() && made->pool.shares.empty()) {
    return absl::UnavailableError("health changes at this moment");
  }
  return absl::OkStatus();
}

// Asks for it, shows it as JSON or YAML if that is wanted, and its warnings if not. A `body` is a
// BackendRef or what has its fields; `fact` is what holds of the backend once it is done. `status`
// is the call's unless there is more to show.
template <typename Ref>
bool Make(const Call& call, const std::string& verb, const Ref& body, const std::string& fact,
          Made* made, int* status) {
  const std::string& name = call.args[0];
  ApiClient client(call.socket);
  api::BackendList before;
  api::Done done;
  absl::Status s = client.Get("/v1/backends", &before);
  if (s.ok()) s = client.Post(absl::StrCat("/v1/", verb), body, &done);
  if (!s.ok()) {
    *status = Refused(s, verb);
    return false;
  }
  // From here on it is made, whatever can be told of it.
  *status = kYes;
  if (call.format == Format::kTable) ShowWarnings(done.warnings());
  if (const api::Backend* was = Find(before, name); was != nullptr) made->was = *was;
  made->is.set_service(body.service());
  made->is.set_name(body.backend());
  s = ReadWhatCameOfIt(client, name, made);
  api::ByHand* by_hand = made->is.mutable_by_hand();
  by_hand->set_changed(done.changed());
  by_hand->set_share_before(made->was.share());
  *by_hand->mutable_shares() = made->pool.shares;
  by_hand->set_served_by(made->pool.served_by);
  *by_hand->mutable_warnings() = done.warnings();
  const std::string unknown = absl::StrCat("what came of it cannot be told: ", s.message());
  if (!s.ok()) by_hand->add_warnings(unknown);
  if (ShowMessage(call, made->is)) return false;
  if (!s.ok()) std::cout << name << " " << fact << "; " << unknown << "\n";
  return s.ok();
}

// Loud, and before all else: the last one is gone. `undo` is the call that undoes it.
void ShowDrops(const Call& call, const Made& made, absl::string_view undo) {
  if (!made.pool.dropped()) return;
  const bool its_doing = made.is.by_hand().changed() && made.was.share() > 0;
  std::cout << Coloured(
                   absl::StrCat("! ", made.pool.Text("now"),
                                its_doing ? absl::StrCat("; `guideway ", undo, "` undoes it") : ""),
                   Colour::kRed, call.terminal)
            << "\n";
}

void ShowPool(const Made& made) {
  if (!made.pool.dropped()) std::cout << made.pool.Text("now") << "\n";
}

// «no connection is open», «17 open connections stay until done; 8 more are closing».
std::string OpenText(uint64_t open, uint64_t closing) {
  return absl::StrCat(
      open == 0   ? "no connection is open"
      : open == 1 ? "1 open connection stays until done"
                  : absl::StrCat(HumanCount(open), " open connections stay until done"),
      closing == 0
          ? ""
          : absl::StrCat("; ", HumanCount(closing), closing == 1 ? " is closing" : " are closing"));
}

int RunDrain(const Call& call) {
  api::BackendRef ref;
  if (!ReadBackend(call, "drain", &ref)) return kWrongCall;
  Made made;
  int status = kYes;
  if (!Make(call, "drain", ref, "is drained", &made, &status)) return status;
  const std::string& name = call.args[0];
  const uint64_t open = OpenOf(made.is);
  ShowDrops(call, made, absl::StrCat("undrain ", name));
  std::cout << name << (made.is.by_hand().changed() ? " is drained" : " was drained already")
            << ": it gets no new connections";
  if (made.was.share() > 0) {
    std::cout << " (it got " << HumanPercent(made.was.share()) << " of "
              << PoolText(made.is.service(), made.is.region()) << "'s)";
  }
  std::cout << "; " << OpenText(open, made.is.closing_flows()) << "\n";
  if (open > 0) {
    std::cout << "what is open lives in the flow table: a restart of guidewayd before it is done "
                 "cuts it\n";
  }
  ShowPool(made);
  return kYes;
}

int RunUndrain(const Call& call) {
  api::BackendRef ref;
  if (!ReadBackend(call, "undrain", &ref)) return kWrongCall;
  Made made;
  int status = kYes;
  if (!Make(call, "undrain", ref, "is not drained by hand", &made, &status)) return status;
  const api::Backend& is = made.is;
  const bool changed = is.by_hand().changed();
  ShowDrops(call, made, "");
  std::cout << call.args[0];
  if (is.share() > 0) {
    std::cout << (changed ? "" : " was not drained by hand; it") << " gets "
              << HumanPercent(is.share()) << " of " << PoolText(is.service(), is.region())
              << "'s new connections\n";
  } else if (is.state() == "drain") {
    std::cout << " is not drained by hand any more, but it is by the configuration (state: "
              << "drain), and gets no new connections\n";
  } else {
    std::cout << (changed ? " is not drained by hand any more" : " was not drained by hand")
              << "; it is " << is.state()
              << (is.health().empty() ? "" : absl::StrCat(" (", is.health(), ")"))
              << " with weight " << is.weight()
              << (is.weight() > 0 ? " and gets no new connections yet"
                  : is.weight_by_hand()
                      ? absl::StrCat(", so it gets no new connections until `guideway weight ",
                                     call.args[0], " file`")
                      : ", so it gets no new connections")
              << "\n";
  }
  ShowPool(made);
  return kYes;
}

int RunWeight(const Call& call) {
  api::BackendWeight body;
  if (!ReadBackend(call, "weight", &body)) return kWrongCall;
  std::string fact = "has the file's weight";
  if (call.args[1] != "file") {
    constexpr uint32_t kMost = 65535;
    uint32_t weight = 0;
    if (!absl::SimpleAtoi(call.args[1], &weight) || weight > kMost) {
      return WrongCall(
          absl::StrCat("\"", call.args[1], "\" is no weight; allowed: 0 to ", kMost, ", or `file`"),
          "weight");
    }
    body.set_weight(weight);
    fact = absl::StrCat("has weight ", weight);
  }
  Made made;
  int status = kYes;
  if (!Make(call, "weight", body, fact, &made, &status)) return status;
  const std::string& name = call.args[0];
  const api::Backend& is = made.is;
  const bool changed = is.by_hand().changed();
  ShowDrops(call, made,
            absl::StrCat("weight ", name, " ",
                         made.was.weight_by_hand() ? absl::StrCat(made.was.weight()) : "file"));
  std::cout << name << " has weight " << is.weight()
            << (is.weight_by_hand() ? absl::StrCat(" by hand (file: ", is.file_weight(), ")")
                                    : ", the file's")
            << (changed ? "" : ": it had so before, nothing changed")
            << (is.weight() == 0 ? absl::StrCat("; ", OpenText(OpenOf(is), is.closing_flows()))
                                 : "")
            << "\n";
  if (changed && is.state() != "up" && is.share() <= 0 && is.region().empty() &&
      !made.pool.dropped()) {
    std::cout
        << (is.state() == "drain" ? "it is drained" : absl::StrCat("its state is ", is.state()))
        << ": its weight counts in the lookup table, if one chooses, all the same, and some of "
           "the others' new connections move\n";
  }
  ShowPool(made);
  return kYes;
}

}  // namespace

Verb DrainVerb() {
  return {
      .name = "drain",
      .arguments = "SERVICE/BACKEND",
      .live = true,
      .arguments_count = 1,
      .run = RunDrain,
      .summary = "give a backend no new connections",
      .help =
          "Takes a backend out of new connections; the open ones stay. Holds over applies, "
          "reloads\n"
          "and restarts until undrain, or until the backend leaves the configuration. If it was "
          "the\n"
          "last one that took new connections of its service, they are dropped from then on: the\n"
          "answer begins with ! and says so.\n\n"
          "Which connections it has open only the flow table knows, which is memory: a restart of\n"
          "guidewayd forgets it, and they go to other backends, which reset them. So wait until "
          "`guideway\n"
          "get backends` says 0 open before one.\n\n"
          "  guideway drain web/web-2"};
}

Verb UndrainVerb() {
  return {.name = "undrain",
          .arguments = "SERVICE/BACKEND",
          .live = true,
          .arguments_count = 1,
          .run = RunUndrain,
          .summary = "undo a drain",
          .help =
              "Gives a backend that was drained by hand new connections again.\n\n"
              "  guideway undrain web/web-2"};
}

Verb WeightVerb() {
  return {
      .name = "weight",
      .arguments = "SERVICE/BACKEND N|file",
      .live = true,
      .arguments_count = 2,
      .run = RunWeight,
      .summary = "give a backend another weight",
      .help =
          "Gives a backend a weight of 0 to 65535 instead of the one that the configuration has. "
          "Holds\n"
          "over applies, reloads and restarts. With `file`, or the weight that the configuration "
          "has,\n"
          "that one is in force again. 0 gives it no new connections, as drain does.\n\n"
          "  guideway weight web/web-2 50\n"
          "  guideway weight web/web-2 file"};
}

}  // namespace guideway
