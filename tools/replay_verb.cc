// `guideway replay`: a capture through the packet path, without a daemon.
//
// One packet is one burst. Time is the capture's own, from its first packet on, so the same capture
// always gives the same answers.
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dataplane/packet/pipeline.h"
#include "tools/capture.h"
#include "tools/offline.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

constexpr Option kOptions[] = {
    {"config", "FILE", "a configuration; - is standard input"},
    {"in", "A.pcap", "what was received: pcap or pcapng, of Ethernet; - is standard input"},
    {"out", "B.pcap", "what would be sent; not written if not given"},
    {"down", "SERVICE/BACKEND", "a backend that is down; all others are up", true},
};

constexpr char kHelp[] =
    "Runs a capture through the packet path, as if its packets were received one after another by\n"
    "a worker with an empty flow table, and says what becomes of each. Time is the capture's own.\n"
    "Needs no daemon, no root and no huge pages, and touches no network.\n\n"
    "  guideway replay --config FILE --in A.pcap [--out B.pcap] [--down SERVICE/BACKEND]...\n\n"
    "for example\n\n"
    "  guideway replay --config /etc/guideway.yaml --in seen.pcap --out sent.pcap\n\n"
    "With -o json or yaml there is a line for each packet, then the summary; a table is the\n"
    "summary alone. Everything comes in by the first interface. With routing: kernel every next\n"
    "hop is 02:00:00:00:00:fe; an interface without mac has 02:00:00:00:00:01.\n"
    "Exit status 0: the capture was read to its end; 1: it is cut off, the configuration is not\n"
    "valid, or the output could not be written; 2: not a capture of Ethernet, or a backend that\n"
    "is not there.";

int Wrong(absl::string_view why) { return WrongCall(why, "replay"); }

// What became of one packet.
struct Line {
  Verdict verdict;
  Reason reason;  // of a drop
  std::string service, backend;
  FlowLookup lookup;
  size_t frames;
};

class Replay {
 public:
  Replay(const Call& call, const Offline& offline, std::optional<CaptureWriter> out)
      : format_(call.format),
        snapshot_(*offline.snapshot),
        out_(std::move(out)),
        shared_(1, offline.flow_entries, PageSize::kLazy),
        pipeline_(shared_, 0),
        buffer_(Frame::kHeadroom + kLongestCaptured),
        burst_(std::make_unique<Burst>()) {}

  void Receive(const CapturedPacket& packet) {
    if (received_ == 0) first_time_ = last_sweep_ = packet.time_ns;
    time_ = packet.time_ns;
    TakeHeld(false);  // whose time was up before this packet came
    lines_.emplace_back();
    uint8_t* data = buffer_.data() + Frame::kHeadroom;
    std::copy(packet.bytes.begin(), packet.bytes.end(), data);
    const bool whole = packet.bytes.size() >= packet.original_length;
    if (!whole) ++cut_;
    burst_->size = 1;
    burst_->packets[0].frame = {.data = data,
                                .length = whole ? static_cast<uint32_t>(packet.bytes.size()) : 0,
                                .interface = 0,
                                .number = received_++};
    Run();
    TakeHeld(false);
    Sweep();
  }

  void Finish() { TakeHeld(true); }

  // How many packets the capture did not have whole.
  uint64_t cut() const { return cut_; }

  absl::Status CloseOutput() { return out_.has_value() ? out_->Close() : absl::OkStatus(); }

  void ShowSummary(const Call& call) const;

 private:
  void TakeHeld(bool all) {
    while (pipeline_.TakeHeld(time_ - first_time_, all, *burst_)) Run();
  }

  void Run() {
    pipeline_.Process(snapshot_, time_ - first_time_, *burst_);
    pipeline_.Account(*burst_);
    auto extra = burst_->extras.begin();
    for (uint32_t i = 0; i < burst_->size; ++i) {
      if (!burst_->packets[i].IsDecided()) continue;
      const Frame& frame = burst_->packets[i].frame;
      const Service* service = burst_->ServiceOf(burst_->packets[i]);
      const Backend* backend = burst_->BackendOf(burst_->packets[i]);
      Line line = {.verdict = burst_->packets[i].verdict,
                   .reason = burst_->packets[i].reason,
                   .service = service == nullptr ? "" : service->name,
                   .backend = backend == nullptr ? "" : backend->name,
                   .lookup = burst_->packets[i].lookup,
                   .frames = 0};
      if (burst_->packets[i].IsSent()) {
        Write({frame.data, frame.length});
        ++line.frames;
      }
      for (; extra != burst_->extras.end() && extra->packet == i; ++extra) {
        Write({extra->data, extra->length});
        ++line.frames;
      }
      Count(line);
      lines_[frame.number - shown_] = std::move(line);
    }
    for (; !lines_.empty() && lines_.front().has_value(); lines_.pop_front()) {
      Show(*lines_.front());
      ++shown_;
    }
  }

  void Write(absl::Span<const uint8_t> bytes) {
    if (!out_.has_value()) return;
    // An error is final, and Close will tell.
    out_->Write({.bytes = bytes,
                 .original_length = static_cast<uint32_t>(bytes.size()),
                 .time_ns = time_})
        .IgnoreError();
  }

  // As a worker does it, so that connections that are over are counted by nobody.
  void Sweep() {
    if (time_ - last_sweep_ < 2 * kSecond) return;
    last_sweep_ = time_;
    for (const auto& service : snapshot_.services()) {
      if (service->scheduler != Scheduler::kLeastConnections) continue;
      pipeline_.Sweep(snapshot_, time_ - first_time_, pipeline_.flows().lines());
      return;
    }
  }

  void Count(const Line& line) {
    ++counts_.received;
    ++counts_.verdicts[static_cast<size_t>(line.verdict)];
    if (line.verdict == Verdict::kDrop) ++counts_.reasons[static_cast<size_t>(line.reason)];
    frames_ += line.frames;
    if (!line.backend.empty()) ++by_backend_[{line.service, line.backend}][line.verdict];
  }

  void Show(const Line& line) const;
  std::string SummaryJson() const;

  const Format format_;
  const Snapshot& snapshot_;
  std::optional<CaptureWriter> out_;
  SharedState shared_;
  Pipeline pipeline_;
  std::vector<uint8_t> buffer_;
  std::unique_ptr<Burst> burst_;

  uint64_t first_time_ = 0, time_ = 0, last_sweep_ = 0;
  uint64_t received_ = 0, shown_ = 0;
  uint64_t cut_ = 0;                       // by the capture
  std::deque<std::optional<Line>> lines_;  // from number shown_ on; empty: not decided yet
  PacketCounts counts_;
  uint64_t frames_ = 0;
  std::map<std::pair<std::string, std::string>, std::map<Verdict, uint64_t>> by_backend_;
};

void Replay::Show(const Line& line) const {
  if (format_ == Format::kTable) return;
  const bool dropped = line.verdict == Verdict::kDrop;
  std::cout << (format_ == Format::kYaml ? "- " : "") << "{\"packet\": " << shown_ + 1
            << ", \"verdict\": \"" << kVerdictInfo[static_cast<size_t>(line.verdict)].name
            << "\", \"reason\": "
            << Quoted(dropped ? kReasonInfo[static_cast<size_t>(line.reason)].name : "")
            << ", \"service\": " << Quoted(line.service)
            << ", \"backend\": " << Quoted(line.backend) << ", \"flow\": \""
            << FlowLookupName(line.lookup) << "\", \"frames\": " << line.frames << "}\n";
}

std::string Replay::SummaryJson() const {
  std::vector<std::string> verdicts, reasons;
  for (size_t v = 0; v < kVerdicts; ++v) {
    verdicts.push_back(absl::StrCat("\"", kVerdictInfo[v].name, "\": ", counts_.verdicts[v]));
  }
  for (size_t r = 0; r < kReasons; ++r) {
    reasons.push_back(absl::StrCat("\"", kReasonInfo[r].name, "\": ", counts_.reasons[r]));
  }
  return absl::StrCat("{\"summary\": {\"packets\": ", counts_.received, ", \"verdicts\": {",
                      absl::StrJoin(verdicts, ", "), "}, \"reasons\": {",
                      absl::StrJoin(reasons, ", "), "}}}");
}

void Replay::ShowSummary(const Call& call) const {
  if (format_ != Format::kTable) {
    std::cout << (format_ == Format::kYaml ? "- " : "") << SummaryJson() << "\n";
    return;
  }
  using Align = Table::Align;
  std::cout << Counted(counts_.received, "packet") << " in "
            << HumanDuration(static_cast<double>(time_ - first_time_) / kSecond) << ", "
            << Counted(frames_, "frame") << " sent\n\n";
  Table verdicts({{"VERDICT"}, {"PACKETS", Align::kRight}, {"MEANS"}});
  for (size_t v = 0; v < kVerdicts; ++v) {
    verdicts.Add({std::string(kVerdictInfo[v].name), absl::StrCat(counts_.verdicts[v]),
                  std::string(kVerdictInfo[v].help)});
  }
  for (size_t r = 0; r < kReasons; ++r) {
    if (counts_.reasons[r] == 0) continue;
    verdicts.Add({absl::StrCat("  ", kReasonInfo[r].name), absl::StrCat(counts_.reasons[r]),
                  std::string(kReasonInfo[r].help)});
  }
  std::cout << verdicts.Render(call.terminal);
  if (by_backend_.empty()) return;
  Table backends({Table::Names("SERVICE"),
                  Table::Names("BACKEND"),
                  {"FORWARDED", Align::kRight},
                  {"REPLIED", Align::kRight},
                  {"DROPPED", Align::kRight}});
  for (const auto& [name, verdicts_of] : by_backend_) {
    const auto count = [&counts = verdicts_of](Verdict v) {
      const auto it = counts.find(v);
      return absl::StrCat(it == counts.end() ? 0 : it->second);
    };
    backends.Add({name.first, name.second, count(Verdict::kForward), count(Verdict::kReply),
                  count(Verdict::kDrop)});
  }
  std::cout << "\n" << backends.Render(call.terminal);
}

int RunReplay(const Call& call) {
  if (!call.Has("config") || !call.Has("in")) {
    return Wrong("replay needs --config FILE and --in A.pcap");
  }
  if (call.Values("config")[0] == "-" && call.Values("in")[0] == "-") {
    return Wrong("standard input can be only one of --config and --in");
  }
  const absl::StatusOr<Offline> offline =
      LoadOffline(call.Values("config")[0], call.Values("down"));
  if (absl::IsOutOfRange(offline.status())) {
    return Wrong(absl::StrCat("--down: ", offline.status().message()));
  }
  if (!offline.ok()) return No(offline.status());
  absl::StatusOr<CaptureReader> in = CaptureReader::Open(call.Values("in")[0]);
  if (!in.ok()) return Wrong(in.status().message());
  std::optional<CaptureWriter> out;
  if (call.Has("out") && call.Values("out")[0] == "-") {
    return Wrong("--out - would mix with what replay says; name a file");
  }
  if (call.Has("out")) {
    absl::StatusOr<CaptureWriter> opened = CaptureWriter::Open(call.Values("out")[0], &*in);
    if (!opened.ok()) return No(opened.status());
    out = *std::move(opened);
  }

  const auto replay = std::make_unique<Replay>(call, *offline, std::move(out));
  CapturedPacket packet;
  absl::StatusOr<bool> more = in->Next(&packet);
  for (; more.ok() && *more; more = in->Next(&packet)) replay->Receive(packet);
  replay->Finish();
  replay->ShowSummary(call);
  if (replay->cut() > 0) {
    std::cerr << "warning: the capture has only the beginning of "
              << Counted(replay->cut(), "packet")
              << ", which count as malformed; capture whole packets (tcpdump -s 0)\n";
  }
  if (absl::Status written = replay->CloseOutput(); !written.ok()) return No(written);
  if (more.ok()) return kYes;
  return absl::IsDataLoss(more.status()) ? No(more.status()) : Wrong(more.status().message());
}

}  // namespace

Verb ReplayVerb() {
  return {"replay", "",      false, 0, RunReplay, "what would become of the packets of a capture",
          kHelp,    kOptions};
}

}  // namespace guideway
