#include "dataplane/packet/explain.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dataplane/packet/burst.h"
#include "dataplane/packet/frame_text.h"
#include "dataplane/packet/pipeline.h"
#include "dataplane/packet/shared_state.h"
#include "maglev/choice.h"
#include "maglev/time_text.h"

namespace guideway {
namespace {

class Explaining {
 public:
  Explaining(const Snapshot& snapshot, absl::Span<const std::string> interfaces,
             const PacketText& text, const LiveTables* live)
      : snapshot_(snapshot),
        interfaces_(interfaces),
        text_(text),
        live_(live),
        shared_(1, 8, PageSize::kLazy),
        pipeline_(shared_, 0),
        burst_(std::make_unique<Burst>()) {}

  Explanation Run() {
    answer_.packet = text_.ToString();
    const Nanoseconds now = live_ == nullptr ? 0 : live_->now;
    if (live_ != nullptr) Remember();
    const std::vector<uint8_t> frame = text_.Frame();
    std::vector<uint8_t> buffer(Frame::kHeadroom + frame.size());
    std::copy(frame.begin(), frame.end(), buffer.begin() + Frame::kHeadroom);
    burst_->size = 1;
    burst_->packets[0].frame = {.data = buffer.data() + Frame::kHeadroom,
                                .length = static_cast<uint32_t>(frame.size()),
                                .interface = 0};
    pipeline_.Process(snapshot_, now, *burst_);

    const Verdict verdict = burst_->packets[0].verdict;
    answer_.verdict = std::string(kVerdictInfo[static_cast<size_t>(verdict)].name);
    if (verdict == Verdict::kDrop) {
      answer_.reason =
          std::string(kReasonInfo[static_cast<size_t>(burst_->packets[0].reason)].name);
    }
    if (FoundService() != nullptr) answer_.service = FoundService()->name;
    if (FoundBackend() != nullptr) answer_.backend = FoundBackend()->name;
    answer_.flow = std::string(FlowLookupName(burst_->packets[0].lookup));
    ExplainMatch();
    if (FoundService() != nullptr && burst_->packets[0].direction == Direction::kToBackend) {
      ExplainChoice();
    }
    ExplainEnd();
    if (burst_->packets[0].IsSent()) {
      const Frame& sent = burst_->packets[0].frame;
      answer_.headers =
          verdict == Verdict::kForward && IsTunnelled()
              ? OuterHeaders({sent.data, sent.length}, burst_->packets[0].parsed.ip_length)
              : AllHeaders({sent.data, sent.length});
    }
    return std::move(answer_);
  }

 private:
  void Step(const std::string& sentence) { answer_.steps.push_back(sentence); }

  // Null: none was chosen.
  const Backend* FoundBackend() const { return burst_->BackendOf(burst_->packets[0]); }
  // Null: it is not to a service.
  const Service* FoundService() const { return burst_->ServiceOf(burst_->packets[0]); }
  bool Is(Reason reason) const {
    return burst_->packets[0].verdict == Verdict::kDrop && burst_->packets[0].reason == reason;
  }
  bool IsTunnelled() const {
    const Service* service = FoundService();
    return service != nullptr && IsTunnel(service->forwarding);
  }

  void ExplainMatch() {
    const std::string destination = text_.destination.ToString();
    if (Is(Reason::kMalformed)) {
      Step("malformed: its source is a multicast or broadcast address, or the VIP itself");
      return;
    }
    const Vip* vip = snapshot_.vips().Find(text_.destination);
    if (vip == nullptr) return ExplainNoVip();
    Step(absl::StrCat(destination, " is a VIP", OfPrefix(), "; at it ", Served()));
    if (Is(Reason::kAccessDenied)) {
      Step(absl::StrCat("the access list denies ", text_.source.ToString()));
      return;
    }
    if (snapshot_.has_access()) {
      Step(absl::StrCat("the access list lets ", text_.source.ToString(), " send"));
    }
    if (text_.kind == PacketText::Kind::kIcmp) {
      Step("an echo request to a VIP is answered by the balancer itself");
      if (Is(Reason::kRateLimited)) Step("but replies_per_second is reached");
    } else if (FoundService() == nullptr) {
      Step(absl::StrCat(Protocol(), " port ", text_.destination_port, " is not served there",
                        OfShorterPrefix()));
    } else {
      Step(absl::StrCat(Protocol(), " port ", text_.destination_port, " is service ",
                        FoundService()->name));
    }
  }

  void ExplainNoVip() {
    const std::string destination = text_.destination.ToString();
    if (burst_->packets[0].direction == Direction::kFromBackend && FoundBackend() != nullptr) {
      const std::string port =
          text_.source_port == 0 ? "" : absl::StrCat(" port ", text_.source_port);
      Step(absl::StrCat(destination, " is no VIP, but ", text_.source.ToString(), port,
                        " is backend ", answer_.backend, " of ", answer_.service,
                        ": an answer, which gets the VIP as its source"));
      return;
    }
    Step(absl::StrCat(destination,
                      " is no VIP: the packet is punted, which in this version is its end"));
  }

  // « (in 198.51.100.0/24)», of a VIP that is a prefix.
  std::string OfPrefix() const {
    const Prefix* longest = nullptr;
    for (const auto& service : snapshot_.services()) {
      for (const Prefix& vip : service->vips) {
        if (!vip.Contains(text_.destination)) continue;
        if (longest == nullptr || vip.length > longest->length) longest = &vip;
      }
    }
    if (longest == nullptr || longest->is_host()) return "";
    return absl::StrCat(" (in ", longest->ToString(), ")");
  }

  // «: wide takes it at 198.51.100.0/24, but the longest prefix decides alone», of a port that a
  // service has whose VIP is a prefix around the one that was found.
  std::string OfShorterPrefix() const {
    const guideway::Protocol protocol =
        text_.kind == PacketText::Kind::kTcp ? guideway::Protocol::kTcp : guideway::Protocol::kUdp;
    for (const auto& service : snapshot_.services()) {
      const bool takes_all = service->protocol == guideway::Protocol::kAny;
      const bool takes_it =
          takes_all ||
          (service->protocol == protocol &&
           std::any_of(service->ports.begin(), service->ports.end(), [&](const PortRange& range) {
             return range.Contains(text_.destination_port);
           }));
      if (!takes_it) continue;
      for (const Prefix& vip : service->vips) {
        if (!vip.Contains(text_.destination)) continue;
        return absl::StrCat(": ", service->name, " takes it at ", vip.ToString(),
                            ", but the longest prefix decides alone");
      }
    }
    return "";
  }

  // «web serves tcp 80, 443; dns udp 53»
  std::string Served() const {
    const Vip* vip = snapshot_.vips().Find(text_.destination);
    std::vector<std::string> served;
    for (const auto& service : snapshot_.services()) {
      for (const Prefix& prefix : service->vips) {
        if (snapshot_.vips().Find(prefix.address) != vip) continue;
        std::vector<std::string> ports;
        for (const PortRange& range : service->ports) {
          ports.push_back(range.first == range.last ? absl::StrCat(range.first)
                                                    : absl::StrCat(range.first, "-", range.last));
        }
        served.push_back(service->protocol == guideway::Protocol::kAny
                             ? absl::StrCat(service->name, " takes every protocol and port")
                             : absl::StrCat(service->name, " takes ",
                                            ProtocolName(service->protocol), " ",
                                            absl::StrJoin(ports, ", ")));
        break;
      }
    }
    return absl::StrJoin(served, "; ");
  }

  absl::string_view Protocol() const {
    return text_.kind == PacketText::Kind::kTcp ? "tcp" : "udp";
  }

  // Takes over what the live tables know of the connection.
  void Remember() {
    if (text_.kind == PacketText::Kind::kIcmp) return;
    const FlowHash hash = snapshot_.flow_hasher().Hash(text_.Key());
    const FlowClock clock(TicksOf(live_->now), snapshot_.timeouts());
    for (const LiveTables::Worker& worker : live_->workers) {
      const std::optional<Flow> flow = worker.flows->Peek(hash);
      if (!flow.has_value() || flow->backend >= kMaxBackends) continue;
      const bool is_over = flow->IsTimedOut(clock);
      answer_.known.push_back({worker.core, EntryOf(*flow, live_->now), is_over});
      if (!is_over && !shared_.flows(0).Find(hash)) shared_.flows(0).Insert(hash, *flow, clock);
    }
  }

  // «web-1, established, last packet 1.5s ago»
  std::string EntryText(const FlowEntry& entry) const {
    const Backend* backend = snapshot_.FindBackend(entry.backend);
    return absl::StrCat(
        backend == nullptr ? "a backend that is not in the configuration any more" : backend->name,
        ", ", FlowStateName(entry.state),
        entry.unconfirmed ? " but not confirmed, first" : ", last", " packet ",
        AgeText(entry.age_ms), " ago");
  }

  // Why a connection that is known does not keep its backend.
  std::string WhyNotKept(const FlowEntry& entry) const {
    const Backend* backend = snapshot_.FindBackend(entry.backend);
    if (backend == nullptr || backend->service != FoundService()->id) {
      return "that backend is not the service's any more";
    }
    if (entry.state == FlowState::kTcpClosing && text_.syn) {
      return "a syn on a connection that is closing opens another one";
    }
    switch (backend->state) {
      case BackendState::kUp: break;
      case BackendState::kDrain:
        return absl::StrCat(backend->name, " takes no new connections, and a syn opens one");
      case BackendState::kDown: return absl::StrCat(backend->name, " is down");
    }
    return "it does not count any more";
  }

  void ExplainKnown() {
    if (live_ == nullptr) {
      if (answer_.flow == "new") {
        Step("no connection is known, as in an empty flow table: a new one is entered");
      }
      return;
    }
    if (answer_.known.empty()) {
      Step(absl::StrCat("no worker's flow table has the connection",
                        answer_.flow == "new" ? ": a new one is entered" : ""));
      return;
    }
    const FlowEntry* counts = nullptr;
    for (const Explanation::Known& known : answer_.known) {
      Step(absl::StrCat("the flow table of the worker on core ", known.core,
                        " has the connection: ", EntryText(known.entry),
                        known.timed_out ? "; timed out, so it does not count" : ""));
      if (!known.timed_out && counts == nullptr) counts = &known.entry;
    }
    if (answer_.flow == "hit") {
      Step(absl::StrCat("so it stays with ", answer_.backend));
    } else if (counts != nullptr) {
      Step(absl::StrCat(WhyNotKept(*counts), ": a backend is chosen anew"));
    }
  }

  void ExplainChoice() {
    const Service& service = *FoundService();
    ExplainKnown();
    if (service.quic != nullptr) {
      Step(
          "the service goes by QUIC connection ids: a packet with one that names a backend goes "
          "there; this one has none");
    }
    const bool opens = text_.kind != PacketText::Kind::kTcp || text_.syn;
    const bool is_hash =
        service.scheduler == Scheduler::kMaglev || service.scheduler == Scheduler::kGeographic;
    if (answer_.flow == "hit") {
      if (is_hash) ExplainSlot(service, is_hash);
    } else if (is_hash || !opens) {
      ExplainSlot(service, is_hash);
    } else {
      Step(absl::StrCat("scheduler ", SchedulerName(service.scheduler), " picks ",
                        answer_.backend.empty() ? "nobody" : answer_.backend,
                        live_ == nullptr
                            ? ": a daemon that has seen other connections may pick another"
                            : ": the worker that gets the packet may pick another"));
    }
    if (Is(Reason::kNoBackend)) Step("no backend takes new connections");
    if (Is(Reason::kRateLimited)) Step("the service's limit of new connections is reached");
  }

  void ExplainSlot(const Service& service, bool is_hash) {
    const TableSlot found =
        FindSlot(service, text_.source, burst_->packets[0].hash, snapshot_.hash_seed());
    const Pool& pool = *found.pool;
    answer_.slot = found.slot;
    const LookupTable::Member home = pool.table->homes()[found.slot];
    const LookupTable::Member now = (*pool.assignment)[found.slot];
    const auto name = [&](LookupTable::Member member) {
      return service.backends[pool.first + member].name;
    };
    if (home != LookupTable::kNoMember) answer_.home = name(home);
    if (!is_hash) {
      Step(absl::StrCat("it does not open a connection, so the hash decides, not scheduler ",
                        SchedulerName(service.scheduler)));
    }
    if (!pool.region.empty()) {
      ExplainRegion(service, pool);
    }
    std::string step =
        absl::StrCat(answer_.flow == "hit" ? "without that entry: " : "", "the hash of ",
                     service.affinity.to_client ? "its client" : "the connection", " is slot ",
                     found.slot, " of ", pool.table->size());
    if (home == LookupTable::kNoMember) {
      absl::StrAppend(&step, ", which is nobody's");
    } else if (home == now) {
      absl::StrAppend(&step, ", whose home is ", name(home));
    } else {
      const bool is_up = service.backends[pool.first + home].state == BackendState::kUp;
      absl::StrAppend(&step, ", whose home, ", name(home), ", takes ",
                      is_up ? "not all of its slots yet" : "no new connections", "; ",
                      now == LookupTable::kNoMember ? "nobody" : name(now), " stands in");
      answer_.home_step = answer_.steps.size();
    }
    Step(step);
  }

  // Whose backends its client gets: those of `pool`.
  void ExplainRegion(const Service& service, const Pool& pool) {
    uint32_t index = service.regions->Find(text_.source);
    if (index == PrefixMap::kNone) index = service.default_region;
    const std::string& own = service.pools[index].region;
    const bool is_served = pool.assignment->front() != LookupTable::kNoMember;
    if (own == pool.region && is_served) {
      Step(absl::StrCat(text_.source.ToString(), " is served by region ", own));
    } else {
      Step(absl::StrCat(
          text_.source.ToString(), " is of region ", own,
          ", none of whose backends takes new connections: ",
          is_served ? absl::StrCat("region ", pool.region, " stands in") : "nobody stands in"));
    }
  }

  void ExplainEnd() {
    const Backend* backend = FoundBackend();
    if (Is(Reason::kNoNextHop)) {
      Step(absl::StrCat("no route leads to ",
                        backend != nullptr && burst_->packets[0].direction == Direction::kToBackend
                            ? backend->address.ToString()
                            : "where it has to go"));
    }
    if (!burst_->packets[0].IsSent()) return;
    const std::string& by = interfaces_[burst_->packets[0].frame.interface];
    if (burst_->packets[0].verdict == Verdict::kReply ||
        burst_->packets[0].direction != Direction::kToBackend) {
      Step(absl::StrCat("it leaves by ", by));
      return;
    }
    Step(absl::StrCat(answer_.backend, " is at ", backend->address.ToString(), ", reached by ",
                      ForwardingName(FoundService()->forwarding), " through ", by, ", next hop ",
                      backend->next_hop.destination.ToString()));
  }

  const Snapshot& snapshot_;
  const absl::Span<const std::string> interfaces_;
  const PacketText& text_;
  const LiveTables* const live_;
  SharedState shared_;
  Pipeline pipeline_;
  std::unique_ptr<Burst> burst_;
  Explanation answer_;
};

}  // namespace

FlowEntry EntryOf(const Flow& flow, Nanoseconds now) {
  // Its worker may have read the clock after us.
  const auto ticks = static_cast<int32_t>(TicksOf(now) - flow.touched);
  constexpr uint64_t kMsPerTick = 1000 / kTicksPerSecond;
  return {.backend = flow.backend,
          .state = flow.state,
          .unconfirmed = flow.unconfirmed,
          .age_ms = ticks < 0 ? 0 : static_cast<uint64_t>(ticks) * kMsPerTick};
}

Explanation ExplainPacket(const Snapshot& snapshot, absl::Span<const std::string> interfaces,
                          const PacketText& packet, const LiveTables* live) {
  return Explaining(snapshot, interfaces, packet, live).Run();
}

}  // namespace guideway
