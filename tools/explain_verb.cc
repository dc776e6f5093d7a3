// `guideway explain`: where one packet would go, and why, step by step. The packet goes through the
// packet path itself; the steps say what was decided on the way.
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dataplane/packet/pipeline.h"
#include "maglev/headers.h"
#include "tools/frame_text.h"
#include "tools/offline.h"
#include "tools/packet_text.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

constexpr Option kOptions[] = {
    {"config", "FILE", "a configuration"},
    {"down", "SERVICE/BACKEND", "a backend that is down; all others are up", true},
};

constexpr char kHelp[] =
    "Says where a packet would go, and why, step by step. Needs no daemon, no root and no huge\n"
    "pages: the packet goes through the packet path as the first of its connection.\n\n"
    "  guideway explain --config FILE 'tcp 203.0.113.7:40000 > 198.51.100.10:80 syn'\n"
    "  guideway explain --config FILE 'udp [2001:db8::7]:40000 > [2001:db8:100::10]:53'\n"
    "  guideway explain --config FILE 'icmp 203.0.113.7 > 198.51.100.10'\n\n"
    "Exit status 0: there is an answer, also for a packet that would be dropped; 1: the\n"
    "configuration cannot be read or is not valid; 2: not a packet, or a backend that is not\n"
    "there.";

int Wrong(absl::string_view why) { return WrongCall(why, "explain"); }

struct Answer {
  std::string verdict, reason, service, backend, flow;
  std::optional<uint32_t> slot;
  std::string home;
  std::vector<std::string> steps, headers;
};

class Explanation {
 public:
  Explanation(const Offline& offline, const PacketText& text)
      : offline_(offline),
        snapshot_(*offline.snapshot),
        text_(text),
        shared_(1, 8, PageSize::kLazy),
        pipeline_(shared_, 0),
        burst_(std::make_unique<Burst>()) {}

  Answer Run() {
    const std::vector<uint8_t> frame = text_.Frame();
    std::vector<uint8_t> buffer(Frame::kHeadroom + frame.size());
    std::copy(frame.begin(), frame.end(), buffer.begin() + Frame::kHeadroom);
    burst_->size = 1;
    burst_->packets[0].frame = {.data = buffer.data() + Frame::kHeadroom,
                                .length = static_cast<uint32_t>(frame.size()),
                                .interface = 0};
    pipeline_.Process(snapshot_, 0, *burst_);

    const Verdict verdict = burst_->packets[0].verdict;
    answer_.verdict = std::string(kVerdictInfo[static_cast<size_t>(verdict)].name);
    if (verdict == Verdict::kDrop) {
      answer_.reason =
          std::string(kReasonInfo[static_cast<size_t>(burst_->packets[0].reason)].name);
    }
    if (burst_->packets[0].service != nullptr) answer_.service = burst_->packets[0].service->name;
    if (burst_->packets[0].backend() != nullptr)
      answer_.backend = burst_->packets[0].backend()->name;
    answer_.flow = std::string(FlowLookupName(burst_->packets[0].lookup));
    ExplainMatch();
    if (burst_->packets[0].service != nullptr &&
        burst_->packets[0].direction == Direction::kToBackend) {
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

  bool Is(Reason reason) const {
    return burst_->packets[0].verdict == Verdict::kDrop && burst_->packets[0].reason == reason;
  }
  bool IsTunnelled() const {
    const Service* service = burst_->packets[0].service;
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
    } else if (burst_->packets[0].service == nullptr) {
      Step(absl::StrCat(Protocol(), " port ", text_.destination_port, " is not served there"));
    } else {
      Step(absl::StrCat(Protocol(), " port ", text_.destination_port, " is service ",
                        burst_->packets[0].service->name));
    }
  }

  void ExplainNoVip() {
    const std::string destination = text_.destination.ToString();
    if (burst_->packets[0].direction == Direction::kFromBackend &&
        burst_->packets[0].backend() != nullptr) {
      const std::string port =
          text_.source_port == 0 ? "" : absl::StrCat(" port ", text_.source_port);
      Step(absl::StrCat(destination, " is no VIP, but ", text_.source.ToString(), port,
                        " is backend ", answer_.backend, " of ", answer_.service,
                        ": an answer, which gets the VIP as its source"));
      return;
    }
    Step(absl::StrCat(destination, " is no VIP: the packet is the kernel's"));
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

  void ExplainChoice() {
    const Service& service = *burst_->packets[0].service;
    if (answer_.flow == "new") {
      Step("no connection is known, as in an empty flow table: a new one is entered");
    }
    if (service.quic != nullptr) {
      Step(
          "the service goes by QUIC connection ids: a packet with one that names a backend goes "
          "there; this one has none");
    }
    const bool opens = text_.kind != PacketText::Kind::kTcp || text_.syn;
    const bool is_hash =
        service.scheduler == Scheduler::kMaglev || service.scheduler == Scheduler::kGeographic;
    if (is_hash || !opens) {
      ExplainSlot(service, is_hash);
    } else {
      Step(absl::StrCat("scheduler ", SchedulerName(service.scheduler), " picks ",
                        answer_.backend.empty() ? "nobody" : answer_.backend,
                        ": a daemon that has seen other connections may pick another"));
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
      Step(absl::StrCat(text_.source.ToString(), " is served by region ", pool.region));
    }
    std::string step =
        absl::StrCat("the hash of ", service.affinity.to_client ? "its client" : "the connection",
                     " is slot ", found.slot, " of ", pool.table->size());
    if (home == LookupTable::kNoMember) {
      absl::StrAppend(&step, ", which is nobody's");
    } else if (home == now) {
      absl::StrAppend(&step, ", whose home is ", name(home));
    } else {
      absl::StrAppend(&step, ", whose home, ", name(home), ", takes no new connections; ",
                      now == LookupTable::kNoMember ? "nobody" : name(now), " stands in");
    }
    Step(step);
  }

  void ExplainEnd() {
    const Backend* backend = burst_->packets[0].backend();
    if (Is(Reason::kNoNextHop)) {
      Step(absl::StrCat("no route leads to ",
                        backend != nullptr && burst_->packets[0].direction == Direction::kToBackend
                            ? backend->address.ToString()
                            : "where it has to go"));
    }
    if (!burst_->packets[0].IsSent()) return;
    const std::string by = offline_.interfaces[burst_->packets[0].frame.interface];
    if (burst_->packets[0].verdict == Verdict::kReply ||
        burst_->packets[0].direction != Direction::kToBackend) {
      Step(absl::StrCat("it leaves by ", by));
      return;
    }
    Step(absl::StrCat(answer_.backend, " is at ", backend->address.ToString(), ", reached by ",
                      ForwardingName(burst_->packets[0].service->forwarding), " through ", by,
                      ", next hop ", backend->next_hop.destination.ToString()));
  }

  const Offline& offline_;
  const Snapshot& snapshot_;
  const PacketText& text_;
  SharedState shared_;
  Pipeline pipeline_;
  std::unique_ptr<Burst> burst_;
  Answer answer_;
};

std::string List(const std::vector<std::string>& texts) {
  return absl::StrCat("[",
                      absl::StrJoin(texts, ", ",
                                    [](std::string* out, const std::string& text) {
                                      absl::StrAppend(out, "\"", text, "\"");
                                    }),
                      "]");
}

void Show(const Call& call, const PacketText& text, const Answer& answer) {
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
  std::cout << text.ToString() << "\n";
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

int RunExplain(const Call& call) {
  if (!call.Has("config")) return Wrong("explain needs --config FILE");
  const absl::StatusOr<PacketText> text = PacketText::Parse(absl::StrJoin(call.args, " "));
  if (!text.ok()) return Wrong(text.status().message());
  const absl::StatusOr<Offline> offline =
      LoadOffline(call.Values("config")[0], call.Values("down"));
  if (absl::IsOutOfRange(offline.status())) {
    return Wrong(absl::StrCat("--down: ", offline.status().message()));
  }
  if (!offline.ok()) return No(offline.status());
  Show(call, *text, Explanation(*offline, *text).Run());
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
          .more_arguments = true};
}

}  // namespace guideway
