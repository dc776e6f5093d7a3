#include "tools/top.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "maglev/time_text.h"

namespace guideway {
namespace {

using google::protobuf::RepeatedPtrField;

// Where a flow table, and a worker's time, begin to run out.
constexpr double kNearlyFull = 0.8;
constexpr double kNearlyBusy = 0.9;

// --- rates ---------------------------------------------------------------------------------------

// Counts that grow, over the time between.
class Rates {
 public:
  Rates(double before, double now) : seconds_(now > before ? now - before : 0) {}

  double seconds() const { return seconds_; }
  double Of(uint64_t before, uint64_t now) const {
    return seconds_ > 0 && now > before ? static_cast<double>(now - before) / seconds_ : 0;
  }

 private:
  const double seconds_;
};

void Fill(const api::PacketCounters& before, const api::PacketCounters& now, const Rates& rates,
          api::TopPackets* out) {
  out->set_received(rates.Of(before.received(), now.received()));
  out->set_forwarded(rates.Of(before.forwarded(), now.forwarded()));
  out->set_replied(rates.Of(before.replied(), now.replied()));
  out->set_punted(rates.Of(before.punted(), now.punted()));
  out->set_dropped(rates.Of(before.dropped(), now.dropped()));
}

// Of a worker's flow table, 0 to 1.
double FillOf(const api::Worker& worker) {
  return worker.flow_capacity() == 0
             ? 0
             : static_cast<double>(worker.flows()) / static_cast<double>(worker.flow_capacity());
}

template <typename Thing, typename Key>
auto ByKey(const RepeatedPtrField<Thing>& things, Key key) {
  std::map<decltype(key(things[0])), const Thing*> by_key;
  for (const Thing& thing : things) by_key.emplace(key(thing), &thing);
  return by_key;
}

// What was there before, or `now` itself, which has no rates then.
template <typename Map, typename Thing, typename Key>
const Thing& Before(const Map& before, const Thing& now, Key key) {
  const auto found = before.find(key(now));
  return found == before.end() ? now : *found->second;
}

void FillWorkers(const api::Status& before, const api::Status& now, const Rates& rates,
                 api::Top* top) {
  const auto key = [](const api::Worker& w) { return w.core(); };
  const auto was = ByKey(before.workers(), key);
  for (const api::Worker& worker : now.workers()) {
    const api::Worker& then = Before(was, worker, key);
    api::TopWorker* out = top->add_workers();
    out->set_core(worker.core());
    const double busy = worker.busy_seconds() - then.busy_seconds();
    const double idle = worker.idle_seconds() - then.idle_seconds();
    out->set_busy(busy > 0 ? std::min(1.0, busy / (busy + std::max(0.0, idle))) : 0);
    Fill(then.packets(), worker.packets(), rates, out->mutable_packets_per_second());
    out->set_flows(worker.flows());
    out->set_fill(FillOf(worker));
    out->set_flows_not_stored_per_second(
        rates.Of(then.flows_not_stored(), worker.flows_not_stored()));
    if (rates.seconds() > 0 && &then != &worker && worker.rounds() == then.rounds()) {
      top->add_problems(absl::StrCat("the worker on core ", worker.core(), " stands still"));
    }
  }
}

void FillInterfaces(const api::Status& before, const api::Status& now, const Rates& rates,
                    api::Top* top) {
  const auto key = [](const api::Interface& i) { return i.name(); };
  const auto was = ByKey(before.interfaces(), key);
  for (const api::Interface& interface : now.interfaces()) {
    const api::Interface& then = Before(was, interface, key);
    api::TopInterface* out = top->add_interfaces();
    out->set_name(interface.name());
    out->set_link_up(interface.link_up());
    out->set_received_per_second(rates.Of(then.received_packets(), interface.received_packets()));
    out->set_sent_per_second(rates.Of(then.sent_packets(), interface.sent_packets()));
    out->set_missed_per_second(rates.Of(then.missed(), interface.missed()));
  }
}

void FillServices(const api::ServiceList& before, const api::ServiceList& now, const Rates& rates,
                  api::Top* top) {
  const auto key = [](const api::Service& s) { return s.name(); };
  const auto was = ByKey(before.services(), key);
  double bits = 0, new_flows = 0;
  uint64_t active = 0, closing = 0;
  for (const api::Service& service : now.services()) {
    const api::Service& then = Before(was, service, key);
    api::TopService* out = top->add_services();
    out->set_name(service.name());
    out->set_backends(service.backends());
    out->set_backends_up(service.backends_up());
    out->set_packets_per_second(rates.Of(then.packets(), service.packets()));
    out->set_bits_per_second(8 * rates.Of(then.bytes(), service.bytes()));
    out->set_dropped_per_second(rates.Of(then.dropped(), service.dropped()));
    out->set_new_flows_per_second(rates.Of(then.new_flows(), service.new_flows()));
    out->set_active_flows(service.active_flows());
    bits += out->bits_per_second();
    new_flows += out->new_flows_per_second();
    out->set_closing_flows(service.closing_flows());
    active += service.active_flows();
    closing += service.closing_flows();
  }
  top->set_bits_per_second(bits);
  top->set_new_flows_per_second(new_flows);
  top->set_active_flows(active);
  top->set_closing_flows(closing);
}

void FillBackends(const api::BackendList& before, const api::BackendList& now, const Rates& rates,
                  api::Top* top) {
  const auto key = [](const api::Backend& b) { return std::pair(b.service(), b.name()); };
  const auto was = ByKey(before.backends(), key);
  for (const api::Backend& backend : now.backends()) {
    const api::Backend& then = Before(was, backend, key);
    api::TopBackend* out = top->add_backends();
    out->set_service(backend.service());
    out->set_name(backend.name());
    out->set_state(backend.state());
    out->set_health(backend.health());
    out->set_share(backend.share());
    out->set_packets_per_second(rates.Of(then.packets(), backend.packets()));
    out->set_bits_per_second(8 * rates.Of(then.bytes(), backend.bytes()));
    out->set_new_flows_per_second(rates.Of(then.new_flows(), backend.new_flows()));
    out->set_active_flows(backend.active_flows());
    out->set_closing_flows(backend.closing_flows());
  }
}

// --- what is wrong -------------------------------------------------------------------------------

// Names that a line has room for.
constexpr size_t kNames = 4;

// Drops that no client has earned.
bool IsOurs(const std::string& reason) {
  return reason == "no_backend" || reason == "no_next_hop" || reason == "transmit_full";
}

// «12/s dropped: 10 no_backend, 2 malformed», of ours or of theirs; empty if there are none.
std::string DropsText(const api::Top& top, bool ours) {
  std::vector<std::pair<double, std::string>> drops;
  double sum = 0;
  for (const auto& [reason, rate] : top.drops_per_second()) {
    if (rate <= 0 || IsOurs(reason) != ours) continue;
    drops.emplace_back(rate, reason);
    sum += rate;
  }
  if (drops.empty()) return "";
  std::sort(drops.rbegin(), drops.rend());
  std::vector<std::string> reasons;
  for (const auto& [rate, reason] : drops) {
    reasons.push_back(absl::StrCat(HumanRate(rate), " ", reason));
  }
  return absl::StrCat(HumanRate(sum), "/s dropped: ", absl::StrJoin(reasons, ", "));
}

void FindProblems(const TopLook& now, api::Top* top) {
  const auto problem = [&](const std::string& text) { top->add_problems(text); };
  const auto note = [&](const std::string& text) { top->add_notes(text); };
  if (now.status.state() != "serving") problem(absl::StrCat("guidewayd is ", now.status.state()));
  for (const std::string& text : StandingProblems(now)) problem(text);
  if (now.status.has_refused()) {
    const api::Refusal& refused = now.status.refused();
    const std::vector<std::string> lines = absl::StrSplit(refused.why(), '\n');
    const std::string text =
        absl::StrCat(RefusalText(refused), ": ", lines[0],
                     lines.size() > 1 ? absl::StrCat(" (and ", lines.size() - 1, " more)") : "");
    refused.changed_since() ? note(text) : problem(text);
  }
  for (const api::TopInterface& interface : top->interfaces()) {
    if (interface.missed_per_second() > 0) {
      problem(absl::StrCat("interface ", interface.name(), ": ",
                           HumanRate(interface.missed_per_second()),
                           "/s missed, the workers do not keep up"));
    }
  }
  if (const std::string drops = DropsText(*top, true); !drops.empty()) problem(drops);
  for (const api::TopWorker& worker : top->workers()) {
    if (worker.flows_not_stored_per_second() > 0) {
      problem(absl::StrCat("core ", worker.core(), ": ",
                           HumanRate(worker.flows_not_stored_per_second()),
                           "/s connections find no place in its flow table"));
    }
    if (worker.busy() >= kNearlyBusy) {
      problem(absl::StrCat("the worker on core ", worker.core(), " is busy ",
                           HumanPercent(worker.busy()), " of its time"));
    }
  }

  if (const std::string drops = DropsText(*top, false); !drops.empty()) note(drops);
  std::vector<std::string> names;
  for (const api::Backend& backend : now.backends.backends()) {
    if (backend.drained_by_hand()) {
      names.push_back(absl::StrCat(backend.service(), "/", backend.name()));
    }
  }
  if (!names.empty()) {
    note(absl::StrCat(Counted(names.size(), "backend"),
                      " drained by hand: ", Listed(names, kNames)));
  }
  names.clear();
  for (const api::Backend& backend : now.backends.backends()) {
    if (backend.weight_by_hand()) {
      names.push_back(absl::StrCat(backend.service(), "/", backend.name(), " (", backend.weight(),
                                   ", file: ", backend.file_weight(), ")"));
    }
  }
  if (!names.empty()) {
    note(absl::StrCat(Counted(names.size(), "backend"),
                      " with a weight by hand: ", Listed(names, kNames)));
  }
  if (now.status.warnings_size() > 0) {
    note(absl::StrCat(Counted(now.status.warnings_size(), "warning"),
                      " about the configuration; `guideway status` shows them"));
  }
  if (now.status.history().warnings_size() > 0) {
    note(absl::StrCat("history: ", Counted(now.status.history().warnings_size(), "warning"),
                      " of the start; `guideway status` shows them"));
  }
}

// --- the screen ----------------------------------------------------------------------------------

// The first `room` rows of a table: what is wrong first, but in no more than half of the room where
// there are others.
template <typename Thing, typename IsWrong, typename Less>
std::vector<const Thing*> FirstOf(const RepeatedPtrField<Thing>& things, size_t room,
                                  IsWrong is_wrong, Less less) {
  std::vector<const Thing*> wrong, others;
  for (const Thing& thing : things) (is_wrong(thing) ? wrong : others).push_back(&thing);
  const auto keep = [&](std::vector<const Thing*>& rows, size_t most) {
    const auto by = [&](const Thing* a, const Thing* b) { return less(*a, *b); };
    const auto kept = static_cast<ptrdiff_t>(std::min(rows.size(), most));
    std::partial_sort(rows.begin(), rows.begin() + kept, rows.end(), by);
    rows.resize(static_cast<size_t>(kept));
  };
  keep(wrong, std::max(room / 2, room - std::min(room, others.size())));
  keep(others, room - wrong.size());
  wrong.insert(wrong.end(), others.begin(), others.end());
  return wrong;
}

// The larger rate first; then by name.
template <typename Thing, typename Name>
auto MostFirst(TopOrder order, Name name) {
  return [order, name](const Thing& a, const Thing& b) {
    const auto key = [&](const Thing& t) -> double {
      switch (order) {
        case TopOrder::kTraffic: return t.packets_per_second();
        case TopOrder::kNewConnections: return t.new_flows_per_second();
        case TopOrder::kOpenConnections: return static_cast<double>(OpenOf(t));
        case TopOrder::kName: break;
      }
      return 0;
    };
    const double key_a = key(a), key_b = key(b);
    return key_a != key_b ? key_a > key_b : name(a) < name(b);
  };
}

using Align = Table::Align;

Table WorkerTable(const api::Top& top, size_t rows) {
  Table table({{"CORE", Align::kRight},
               {"BUSY", Align::kRight},
               {"RECEIVED/S", Align::kRight},
               {"FORWARDED/S", Align::kRight, 1},
               {"DROPPED/S", Align::kRight},
               {"FLOWS", Align::kRight},
               {"FILL", Align::kRight}});
  // The busiest first where not all have room.
  std::vector<const api::TopWorker*> workers;
  for (const api::TopWorker& w : top.workers()) workers.push_back(&w);
  if (rows < workers.size()) {
    std::stable_sort(workers.begin(), workers.end(),
                     [](const auto* a, const auto* b) { return a->busy() > b->busy(); });
    workers.resize(rows);
  }
  for (const api::TopWorker* w : workers) {
    table.Add({absl::StrCat(w->core()),
               {HumanPercent(w->busy()), w->busy() >= kNearlyBusy ? Colour::kRed : Colour::kNone},
               HumanRate(w->packets_per_second().received()),
               HumanRate(w->packets_per_second().forwarded()),
               HumanRate(w->packets_per_second().dropped()),
               HumanCount(w->flows()),
               {HumanPercent(w->fill()), w->fill() >= kNearlyFull ? Colour::kRed : Colour::kNone}});
  }
  return table;
}

Table InterfaceTable(const api::Top& top, size_t rows) {
  Table table({Table::Names("INTERFACE"),
               {"LINK"},
               {"RECEIVED/S", Align::kRight},
               {"SENT/S", Align::kRight},
               {"MISSED/S", Align::kRight}});
  for (const api::TopInterface& i : top.interfaces()) {
    if (rows-- == 0) break;
    table.Add({i.name(),
               {i.link_up() ? "up" : "down", i.link_up() ? Colour::kGreen : Colour::kRed},
               HumanRate(i.received_per_second()),
               HumanRate(i.sent_per_second()),
               {HumanRate(i.missed_per_second()),
                i.missed_per_second() > 0 ? Colour::kRed : Colour::kNone}});
  }
  return table;
}

Table ServiceTable(const api::Top& top, TopOrder order, size_t rows) {
  Table table({Table::Names("SERVICE"),
               {"UP", Align::kRight},
               {"PACKETS/S", Align::kRight},
               {"BITS/S", Align::kRight},
               {"NEW/S", Align::kRight},
               {"OPEN", Align::kRight},
               {"DROPPED/S", Align::kRight, 1}});
  for (const api::TopService* s : FirstOf(
           top.services(), rows, [](const api::TopService& t) { return t.backends_up() == 0; },
           MostFirst<api::TopService>(order, [](const api::TopService& t) { return t.name(); }))) {
    const Colour up = s->backends_up() == 0              ? Colour::kRed
                      : s->backends_up() < s->backends() ? Colour::kYellow
                                                         : Colour::kGreen;
    table.Add({s->name(),
               {absl::StrCat(s->backends_up(), "/", s->backends()), up},
               HumanRate(s->packets_per_second()),
               HumanRate(s->bits_per_second()),
               HumanRate(s->new_flows_per_second()),
               HumanCount(OpenOf(*s)),
               {HumanRate(s->dropped_per_second()),
                s->dropped_per_second() > 0 ? Colour::kYellow : Colour::kNone}});
  }
  return table;
}

Table BackendTable(const api::Top& top, TopOrder order, size_t rows) {
  Table table({Table::Names("SERVICE"),
               Table::Names("BACKEND"),
               {"STATE"},
               {"HEALTH", Align::kLeft, 1},
               {"SHARE", Align::kRight, 1},
               {"PACKETS/S", Align::kRight},
               {"BITS/S", Align::kRight},
               {"NEW/S", Align::kRight},
               {"OPEN", Align::kRight}});
  for (const api::TopBackend* b : FirstOf(
           top.backends(), rows, [](const api::TopBackend& t) { return t.state() == "down"; },
           MostFirst<api::TopBackend>(
               order, [](const api::TopBackend& t) { return std::pair(t.service(), t.name()); }))) {
    const Colour colour = b->state() == "up"     ? Colour::kGreen
                          : b->state() == "down" ? Colour::kRed
                                                 : Colour::kYellow;
    table.Add({b->service(),
               b->name(),
               {b->state(), colour},
               b->health().empty() ? "-" : b->health(),
               HumanPercent(b->share()),
               HumanRate(b->packets_per_second()),
               HumanRate(b->bits_per_second()),
               HumanRate(b->new_flows_per_second()),
               HumanCount(OpenOf(*b))});
  }
  return table;
}

using Lines = std::vector<std::string>;

// The first `rows` lines under the heading, the last of which says how many are missing.
Lines FirstRows(const Table& table, size_t rows, size_t all, const Terminal& terminal,
                size_t* left_out) {
  Lines lines = absl::StrSplit(table.Render(terminal, left_out), '\n', absl::SkipEmpty());
  if (rows < all) {
    lines.resize(rows);  // the heading and rows - 1
    lines.push_back(Coloured(absl::StrCat("… ", all - rows + 1, " more"), Colour::kDim, terminal));
  }
  return lines;
}

// How many rows each part of the screen has, its heading and the empty line above it not counted.
struct Rows {
  size_t problems, workers, interfaces, services, backends, events;
};

// The parts that are tables, and the one that is a list, what one would miss most first.
constexpr size_t Rows::*kParts[] = {&Rows::services, &Rows::backends, &Rows::workers,
                                    &Rows::interfaces, &Rows::events};

// Lines of a part beside its rows: the heading of a table, and an empty one.
size_t Beside(size_t Rows::*part, bool spaced) {
  return (part == &Rows::events ? 0 : 1) + (spaced ? 1 : 0);
}

size_t LinesOf(const Rows& rows, bool spaced) {
  size_t lines = rows.problems;
  for (const auto part : kParts) {
    if (rows.*part > 0) lines += rows.*part + Beside(part, spaced);
  }
  return lines;
}

// Who has what of `height` lines, the head and the foot of the screen not counted. What is wrong
// has up to a quarter of them; every part has one thing to show before one has many (and a line
// that says how many are missing: a part without room for both is left out); then what there are
// few of has up to an eighth, services a third of the rest, backends the rest.
Rows Share(size_t height, const Rows& wanted, bool spaced) {
  Rows rows = {};
  size_t left = height;
  const auto grow = [&](size_t& part, size_t to) {
    const size_t more = std::min(left, to > part ? to - part : 0);
    part += more;
    left -= more;
  };
  grow(rows.problems, std::min(wanted.problems, std::max<size_t>(2, height / 4)));
  for (const auto part : kParts) {
    const size_t least = part == &Rows::events ? 1 : std::min<size_t>(2, wanted.*part);
    if (wanted.*part == 0 || left < least + Beside(part, spaced)) continue;
    left -= Beside(part, spaced);
    grow(rows.*part, least);
  }
  for (auto part : {&Rows::workers, &Rows::interfaces, &Rows::events}) {
    if (rows.*part > 0) grow(rows.*part, std::min(wanted.*part, std::max<size_t>(2, height / 8)));
  }
  const size_t third = (left + rows.services + rows.backends) / 3;
  if (rows.services > 0) grow(rows.services, std::min(wanted.services, std::max<size_t>(1, third)));
  for (auto part : {&Rows::backends, &Rows::services, &Rows::events, &Rows::workers,
                    &Rows::interfaces, &Rows::problems}) {
    if (rows.*part > 0) grow(rows.*part, wanted.*part);
  }
  return rows;
}

// The daemon, and sums. What could be spared goes first where there is no room.
std::string FirstLine(const api::Status& status, const api::Top& top, const Terminal& terminal) {
  const auto without_backend = static_cast<int>(
      std::count_if(top.services().begin(), top.services().end(),
                    [](const api::TopService& s) { return s.backends_up() == 0; }));
  struct Part {
    int spare;  // 0: stays
    std::string text;
  };
  std::vector<Part> parts = {
      {3, absl::StrCat("guidewayd ", Printable(status.version()))},
      {0, ServingText(status, top.services_size(), without_backend, terminal)},
      {1, absl::StrCat("up ", HumanDuration(status.uptime_seconds()))},
      {2, absl::StrCat("revision ", status.revision())}};
  if (top.interval_seconds() > 0) {
    parts.push_back({0, absl::StrCat("bits/s ", HumanRate(top.bits_per_second()))});
    parts.push_back({0, absl::StrCat("new/s ", HumanRate(top.new_flows_per_second()))});
  }
  parts.push_back({0, absl::StrCat("open ", HumanCount(OpenOf(top)))});
  for (;;) {
    const std::string line =
        absl::StrJoin(parts, "  ", [](std::string* out, const Part& p) { *out += p.text; });
    const auto spared = std::max_element(
        parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.spare < b.spare; });
    const bool fits = terminal.width == 0 || Cut(line, terminal.width) == line;
    if (fits || spared->spare == 0) return line;
    parts.erase(spared);
  }
}

absl::string_view NameOf(TopOrder order) {
  switch (order) {
    case TopOrder::kTraffic: return "packets";
    case TopOrder::kNewConnections: return "new connections";
    case TopOrder::kOpenConnections: return "open connections";
    case TopOrder::kName: return "name";
  }
  return "";
}

}  // namespace

std::vector<std::string> StandingProblems(const TopLook& now) {
  std::vector<std::string> problems, nobody, regions, ignored;
  for (const api::Service& service : now.services.services()) {
    if (service.backends_up() == 0) {
      nobody.push_back(service.name());
      continue;
    }
    for (const api::Region& region : service.regions()) {
      if (!region.served_by().empty()) continue;
      regions.push_back(absl::StrCat(region.name(), " of ", service.name()));
    }
    if (!service.health_ignored()) continue;
    ignored.push_back(
        absl::StrCat(service.name(), " (", service.healthy(), " of ", service.backends(), ")"));
  }
  if (!nobody.empty()) {
    problems.push_back(absl::StrCat("no backend takes new connections of ",
                                    Counted(nobody.size(), "service"), ": ",
                                    Listed(nobody, kNames)));
  }
  if (!regions.empty()) {
    problems.push_back(absl::StrCat("no backend takes new connections of ",
                                    Counted(regions.size(), "region"), ": ",
                                    Listed(regions, kNames)));
  }
  if (const api::HistoryState& history = now.status.history();
      now.status.has_history() && !history.kept()) {
    problems.push_back(absl::StrCat("history: not kept in ", history.directory(), " since ",
                                    TimeText(history.not_kept_since()),
                                    " UTC: ", history.not_kept_why()));
  }
  if (!ignored.empty()) {
    problems.push_back(absl::StrCat("too few are healthy (min_healthy), so health is ignored: ",
                                    Listed(ignored, kNames)));
  }
  for (const api::Interface& interface : now.status.interfaces()) {
    if (!interface.link_up()) {
      problems.push_back(absl::StrCat("interface ", interface.name(), ": no link"));
    }
  }
  std::vector<std::string> down;
  for (const api::Backend& backend : now.backends.backends()) {
    if (backend.state() != "down") continue;
    down.push_back(absl::StrCat(backend.service(), "/", backend.name(), " (",
                                backend.health().empty() ? "not asked yet" : backend.health(),
                                ")"));
  }
  if (!down.empty()) {
    problems.push_back(
        absl::StrCat(Counted(down.size(), "backend"), " down: ", Listed(down, kNames)));
  }
  for (const api::Worker& worker : now.status.workers()) {
    const double fill = FillOf(worker);
    if (fill < kNearlyFull) continue;
    problems.push_back(absl::StrCat("the flow table of core ", worker.core(), " is ",
                                    HumanPercent(fill), " full"));
  }
  return problems;
}

api::Top MakeTop(const TopLook& before, const TopLook& now) {
  api::Top top;
  const bool same = before.status.pid() == now.status.pid() &&
                    before.status.uptime_seconds() < now.status.uptime_seconds();
  const auto between = [&](const auto& a, const auto& b) {
    return Rates(a.uptime_seconds(), same ? b.uptime_seconds() : 0);
  };
  const Rates rates = between(before.status, now.status);
  top.set_uptime_seconds(now.status.uptime_seconds());
  top.set_interval_seconds(rates.seconds());
  Fill(before.status.packets(), now.status.packets(), rates, top.mutable_packets_per_second());
  for (const auto& [reason, n] : now.status.packets().drops()) {
    const auto was = before.status.packets().drops().find(reason);
    (*top.mutable_drops_per_second())[reason] =
        was == before.status.packets().drops().end() ? 0 : rates.Of(was->second, n);
  }
  FillWorkers(before.status, now.status, rates, &top);
  FillInterfaces(before.status, now.status, rates, &top);
  FillServices(before.services, now.services, between(before.services, now.services), &top);
  FillBackends(before.backends, now.backends, between(before.backends, now.backends), &top);
  FindProblems(now, &top);
  return top;
}

std::string ServingText(const api::Status& status, int services, int without_backend,
                        const Terminal& terminal) {
  const bool serves = status.state() == "serving";
  const std::string text =
      serves && without_backend > 0
          ? absl::StrCat(status.state(), " ", services - without_backend, " of ",
                         Counted(static_cast<uint64_t>(services), "service"))
          : Printable(status.state());
  return Coloured(text, serves && without_backend == 0 ? Colour::kGreen : Colour::kRed, terminal);
}

std::string RefusalText(const api::Refusal& refusal) {
  std::string what;
  if (refusal.how() == "start") {
    what = absl::StrCat(refusal.file(), " at the start");
  } else if (absl::StartsWith(refusal.how(), "rollback")) {
    what = absl::StrCat(refusal.how(), " by ", refusal.who());
  } else {
    what = absl::StrCat(refusal.how(), " of ", refusal.file(), " by ", refusal.who());
  }
  return Printable(
      absl::StrCat(what, " was refused ", HumanDuration(refusal.age_seconds()), " ago"));
}

std::string LayOut(const api::Status& status, const api::Top& top, TopOrder order,
                   const Terminal& terminal, bool keys) {
  Lines lines = {FirstLine(status, top, terminal)};
  const api::TopPackets& packets = top.packets_per_second();
  lines.push_back(top.interval_seconds() > 0
                      ? absl::StrCat("packets/s  ", HumanRate(packets.received()),
                                     " received = ", HumanRate(packets.forwarded()),
                                     " forwarded + ", HumanRate(packets.replied()), " replied + ",
                                     HumanRate(packets.punted()), " punted + ",
                                     HumanRate(packets.dropped()), " dropped")
                      : "packets/s  are counted from now on");
  Lines problems;
  for (const std::string& text : top.problems()) {
    problems.push_back(Coloured(absl::StrCat("! ", Printable(text)), Colour::kRed, terminal));
  }
  for (const std::string& text : top.notes()) {
    problems.push_back(Coloured(absl::StrCat("- ", Printable(text)), Colour::kYellow, terminal));
  }

  const auto count = [](const auto& list) { return static_cast<size_t>(list.size()); };
  constexpr size_t kEvents = 5;
  const Rows wanted = {problems.size(),         count(top.workers()),
                       count(top.interfaces()), count(top.services()),
                       count(top.backends()),   std::min(kEvents, count(status.events()))};
  // Empty lines between the parts are for where there is room for all, or for much.
  constexpr size_t kRoomy = 40;
  const size_t head = lines.size(), foot = keys ? 1 : 0;
  const bool spaced = terminal.height == 0 || terminal.height >= kRoomy ||
                      head + LinesOf(wanted, true) + 2 * foot <= terminal.height;
  const size_t around = head + foot * (spaced ? 2 : 1);
  const Rows rows =
      terminal.height == 0
          ? wanted
          : Share(terminal.height - std::min(terminal.height, around), wanted, spaced);

  if (rows.problems < problems.size() && rows.problems > 0) {
    const size_t missing = problems.size() - rows.problems + 1;
    problems.resize(rows.problems);
    problems.back() = Coloured(absl::StrCat("… ", missing, " more"), Colour::kRed, terminal);
  } else {
    problems.resize(rows.problems);
  }
  lines.insert(lines.end(), problems.begin(), problems.end());
  size_t left_out = 0;  // columns
  const auto add = [&](const Table& table, size_t granted, size_t all) {
    if (granted == 0) return;
    if (spaced) lines.emplace_back();
    for (std::string& line : FirstRows(table, granted, all, terminal, &left_out)) {
      lines.push_back(std::move(line));
    }
  };
  add(WorkerTable(top, rows.workers), rows.workers, wanted.workers);
  add(InterfaceTable(top, rows.interfaces), rows.interfaces, wanted.interfaces);
  add(ServiceTable(top, order, rows.services), rows.services, wanted.services);
  add(BackendTable(top, order, rows.backends), rows.backends, wanted.backends);
  if (rows.events > 0) {
    if (spaced) lines.emplace_back();
    for (int i = status.events_size() - static_cast<int>(rows.events); i < status.events_size();
         ++i) {
      // The time of day: 2026-01-02T03:04:05Z
      const std::string time = Printable(status.events(i).time());
      lines.push_back(
          absl::StrCat(Coloured(time.size() >= 19 ? absl::StrCat(time.substr(11, 8), " UTC") : time,
                                Colour::kDim, terminal),
                       "  ", Printable(status.events(i).text())));
    }
  }
  if (keys) {
    const std::string help = absl::StrCat(
        "q quits  o sorts, now by ", NameOf(order),
        left_out > 0 ? absl::StrCat("  ", Counted(left_out, "column"), " more when wider") : "");
    if (terminal.height > 0 && lines.size() + 1 > terminal.height) {
      lines.resize(std::max<size_t>(terminal.height, 1) - 1);
    } else if (spaced) {
      lines.emplace_back();
    }
    lines.push_back(Coloured(help, Colour::kDim, terminal));
  }
  if (terminal.height > 0 && lines.size() > terminal.height) lines.resize(terminal.height);
  for (std::string& line : lines) {
    if (terminal.width > 0) line = Cut(line, terminal.width);
  }
  return absl::StrJoin(lines, "\n") + "\n";
}

}  // namespace guideway
