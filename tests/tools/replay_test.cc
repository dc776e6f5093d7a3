// `guideway replay` and `guideway explain` as people call them: the real program on captures and
// packets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/support/packet_builder.h"
#include "tests/support/program.h"
#include "tools/capture.h"

namespace guideway {
namespace {

using ::testing::AllOf;
using testing::Bytes;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::Framed;
using ::testing::HasSubstr;
using testing::Hex;
using testing::Icmp;
using testing::Ipv4;
using ::testing::IsEmpty;
using testing::Joined;
using testing::Slice;
using ::testing::StartsWith;
using testing::Tcp;
using testing::Udp;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 1'700'000'000 * kSecond + 123'456'789;

constexpr char kConfig[] = R"(
fleet: { name: test, hash_seed: 42 }
interfaces:
  - { name: uplink, device: net_null0, mtu: 1500, mac: "02:00:00:00:00:11" }
  - { name: inside, device: net_null1, mtu: 1400 }
routing: static
routes:
  - { prefix: 0.0.0.0/0, interface: uplink, mac: "02:00:00:00:00:aa" }
  - { prefix: 10.0.0.0/24, interface: inside, mac: "02:00:00:00:00:bb" }
tunnel: { source_ipv4: 192.0.2.1 }
services:
  - name: web
    vips: [198.51.100.10]
    protocol: tcp
    ports: [80]
    forwarding: ipip
    backends:
      - { name: web-1, address: 10.0.0.11 }
      - { name: web-2, address: 10.0.0.12 }
      - { name: web-3, address: 10.0.0.13, state: drain }
  - name: dns
    vips: [198.51.100.53]
    protocol: udp
    ports: [53]
    forwarding: direct
    backends:
      - { name: dns-1, address: 10.0.0.21 }
  - name: lost
    vips: [198.51.100.99]
    protocol: tcp
    ports: [80]
    forwarding: ipip
    scheduler: round_robin
    limits: { new_flows_per_second: 1 }
    backends:
      - { name: far, address: 10.0.0.31 }
  - name: wide
    vips: [198.51.100.0/28]
    protocol: tcp
    ports: [8080]
    forwarding: ipip
    backends:
      - { name: wide-1, address: 10.0.0.41 }
)";

struct Timed {
  uint64_t time;
  Bytes frame;
};

class ReplayTest : public ::testing::Test {
 protected:
  ReplayTest() {
    std::string name = std::filesystem::temp_directory_path().string() + "/guideway.XXXXXX";
    directory_ = mkdtemp(name.data());
    std::ofstream(Path("guideway.yaml")) << kConfig;
  }
  ~ReplayTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  Result Run(const std::string& arguments) { return RunGuideway(directory_, arguments); }

  void WriteCapture(const std::vector<Timed>& packets) {
    auto writer = CaptureWriter::Open(Path("in.pcap"));
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const Timed& packet : packets) {
      ASSERT_TRUE(writer
                      ->Write({.bytes = packet.frame,
                               .original_length = static_cast<uint32_t>(packet.frame.size()),
                               .time_ns = packet.time})
                      .ok());
    }
    ASSERT_TRUE(writer->Close().ok());
  }
  // A packet a millisecond.
  void WriteCapture(const std::vector<Bytes>& frames) {
    std::vector<Timed> packets;
    for (const Bytes& frame : frames) {
      packets.push_back({kStart + packets.size() * kSecond / 1000, frame});
    }
    WriteCapture(packets);
  }
  std::vector<Timed> ReadSent() {
    auto reader = CaptureReader::Open(Path("out.pcap"));
    EXPECT_TRUE(reader.ok()) << reader.status();
    std::vector<Timed> sent;
    CapturedPacket packet;
    while (reader->Next(&packet).value()) {
      sent.push_back({packet.time_ns, Bytes(packet.bytes.begin(), packet.bytes.end())});
    }
    return sent;
  }

  Result Replay(const std::string& options = "-o json") {
    return Run(absl::StrCat("replay --config ", Path("guideway.yaml"), " --in ", Path("in.pcap"),
                            " --out ", Path("out.pcap"), " ", options));
  }
  std::vector<std::string> Lines(const Result& result) {
    return absl::StrSplit(result.out, '\n', absl::SkipEmpty());
  }
  Result Explain(const std::string& packet, const std::string& options = "-o json") {
    return Run(
        absl::StrCat("explain --config ", Path("guideway.yaml"), " '", packet, "' ", options));
  }

  std::string directory_;
};

std::string Line(int packet, const std::string& verdict, const std::string& reason,
                 const std::string& service, const std::string& backend, const std::string& flow,
                 int frames) {
  const auto quoted = [](const std::string& s) {
    return s.empty() ? "null" : absl::StrCat("\"", s, "\"");
  };
  return absl::StrCat("{\"packet\": ", packet, ", \"verdict\": \"", verdict,
                      "\", \"reason\": ", quoted(reason), ", \"service\": ", quoted(service),
                      ", \"backend\": ", quoted(backend), ", \"flow\": \"", flow,
                      "\", \"frames\": ", frames, "}");
}

Bytes Web(uint16_t port, uint8_t flags = 2, const Bytes& payload = {}) {
  return Framed(Ipv4{}.With(Tcp{.source_port = port, .flags = flags}, payload));
}

const Ipv4 kToDns = {.destination = "198.51.100.53", .protocol = 17};

TEST_F(ReplayTest, SaysWhatBecomesOfEachPacket) {
  WriteCapture({Web(1, 2), Web(1, 0x10), Framed(kToDns.With(Udp{}, {1, 2, 3})),
                Framed(Ipv4{.protocol = 1}.Around(Icmp{}.Around({9, 9}))),
                Framed(Ipv4{.destination = "203.0.113.9"}.With(Tcp{})), Slice(Web(2), 0, 30),
                Framed(Ipv4{}.With(Tcp{.destination_port = 81}))});
  const Result result = Replay();
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  // Of two backends up the hash takes one; which is not this test's business.
  const std::string backend = result.out.find("web-1") != std::string::npos ? "web-1" : "web-2";
  EXPECT_THAT(
      Lines(result),
      ElementsAre(Line(1, "forward", "", "web", backend, "new", 1),
                  Line(2, "forward", "", "web", backend, "hit", 1),
                  Line(3, "forward", "", "dns", "dns-1", "new", 1),
                  Line(4, "reply", "", "", "", "none", 1), Line(5, "punt", "", "", "", "none", 0),
                  Line(6, "drop", "malformed", "", "", "none", 0),
                  Line(7, "drop", "port_not_served", "", "", "none", 0),
                  "{\"summary\": {\"packets\": 7, \"verdicts\": {\"forward\": 3, \"reply\": 1, "
                  "\"punt\": 1, \"drop\": 2}, \"reasons\": {\"malformed\": 1, \"too_big\": 0, "
                  "\"access_denied\": 0, \"rate_limited\": 0, \"port_not_served\": 1, "
                  "\"no_backend\": 0, \"fragment_unknown\": 0, \"no_next_hop\": 0, "
                  "\"transmit_full\": 0}}}"));
  const std::vector<Timed> sent = ReadSent();
  ASSERT_EQ(sent.size(), 4u);
  EXPECT_EQ(sent[0].time, kStart);
  EXPECT_EQ(sent[2].time, kStart + 2 * kSecond / 1000) << "when its packet came";
  // `direct` changes the MAC addresses alone; «inside» has none of its own.
  EXPECT_EQ(Hex(sent[2].frame), Hex(Joined({2, 0, 0, 0, 0, 0xbb, 2, 0, 0, 0, 0, 0x01},
                                           Slice(Framed(kToDns.With(Udp{}, {1, 2, 3})), 12))));
  // The answer to the echo request leaves by the default route.
  EXPECT_EQ(Hex(Slice(sent[3].frame, 0, 12)), Hex({2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0x11}));
}

TEST_F(ReplayTest, TheSameCaptureGivesTheSameBytes) {
  std::vector<Bytes> frames;
  for (uint16_t i = 0; i < 500; ++i) {
    frames.push_back(Web(i, i % 7 == 0 ? 2 : 0x10));
    frames.push_back(Framed(Ipv4{.destination = "198.51.100.99", .dont_fragment = i % 2 == 0}.With(
        Tcp{.source_port = i, .flags = 2})));
  }
  WriteCapture(frames);
  const Result first = Replay();
  const std::string sent = Slurp(Path("out.pcap"));
  const Result second = Replay();
  EXPECT_EQ(first.out, second.out);
  EXPECT_EQ(sent, Slurp(Path("out.pcap")));
  EXPECT_GT(sent.size(), 10000u);
  EXPECT_THAT(first.out, HasSubstr("rate_limited"));
}

TEST_F(ReplayTest, BackendsNamedAreDown) {
  WriteCapture({Web(1), Web(2), Web(3), Web(4), Web(5), Web(6)});
  const Result one = Replay("-o json --down web/web-2");
  EXPECT_EQ(one.exit_status, 0) << one.err;
  EXPECT_THAT(one.out, HasSubstr("\"forward\": 6"));
  EXPECT_THAT(one.out, ::testing::Not(HasSubstr("web-2")));
  EXPECT_THAT(one.out, ::testing::Not(HasSubstr("web-3"))) << "the file drains it";
  const Result all = Replay("-o json --down web/web-2 --down web/web-1");
  EXPECT_THAT(all.out, HasSubstr("\"no_backend\": 6"));
}

TEST_F(ReplayTest, LinesComeInTheOrderOfPacketsFramesInTheOrderOfSending) {
  const Bytes whole = kToDns.With(Udp{}, Bytes(100, 7));
  const Bytes payload = Slice(whole, 20);
  Ipv4 first = kToDns, later = kToDns;
  first.dont_fragment = later.dont_fragment = false;
  first.more_fragments = true;
  later.fragment_offset = 6;
  const Bytes first_frame = Framed(first.Around(Slice(payload, 0, 48)));
  const Bytes later_frame = Framed(later.Around(Slice(payload, 48)));
  Ipv4 lonely = later;
  lonely.identification = 99;
  WriteCapture({later_frame, Web(1), first_frame, Framed(lonely.Around(Bytes(8, 1))), Web(2)});
  const Result result = Replay();
  const std::vector<std::string> lines = Lines(result);
  ASSERT_EQ(lines.size(), 6u) << result.out;
  EXPECT_EQ(lines[0], Line(1, "forward", "", "dns", "dns-1", "none", 1));
  EXPECT_THAT(lines[1], StartsWith("{\"packet\": 2, \"verdict\": \"forward\""));
  EXPECT_EQ(lines[2], Line(3, "forward", "", "dns", "dns-1", "new", 1));
  EXPECT_EQ(lines[3], Line(4, "drop", "fragment_unknown", "", "", "none", 0));
  EXPECT_THAT(lines[4], StartsWith("{\"packet\": 5, \"verdict\": \"forward\""));
  const std::vector<Timed> sent = ReadSent();
  ASSERT_EQ(sent.size(), 4u);
  EXPECT_EQ(Hex(Slice(sent[1].frame, 12)), Hex(Slice(first_frame, 12)));
  EXPECT_EQ(Hex(Slice(sent[2].frame, 12)), Hex(Slice(later_frame, 12))) << "behind its first one";
  EXPECT_EQ(sent[2].time, kStart + 2 * kSecond / 1000);
}

TEST_F(ReplayTest, TimeIsTheCapturesOwn) {
  const auto syn = [](uint16_t port) {
    return Framed(Ipv4{.destination = "198.51.100.99"}.With(Tcp{.source_port = port, .flags = 2}));
  };
  WriteCapture({{kStart, syn(1)},
                {kStart + kSecond / 2, syn(2)},
                {kStart + kSecond * 3 / 2, syn(3)},
                // Time runs back: it stands still.
                {kStart, syn(4)},
                // Long after the handshake of the first is timed out.
                {kStart + 100 * kSecond, syn(1)}});
  const std::vector<std::string> lines = Lines(Replay());
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], Line(1, "forward", "", "lost", "far", "new", 1));
  EXPECT_EQ(lines[1], Line(2, "drop", "rate_limited", "lost", "", "none", 0));
  EXPECT_EQ(lines[2], Line(3, "forward", "", "lost", "far", "new", 1));
  EXPECT_EQ(lines[3], Line(4, "drop", "rate_limited", "lost", "", "none", 0));
  EXPECT_EQ(lines[4], Line(5, "forward", "", "lost", "far", "new", 1));
}

TEST_F(ReplayTest, APacketThatTheCaptureCutIsMalformed) {
  const Bytes frame = Web(1, 0x10, Bytes(100, 1));
  auto writer = CaptureWriter::Open(Path("in.pcap"));
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer
                  ->Write({.bytes = absl::MakeConstSpan(frame).first(60),
                           .original_length = static_cast<uint32_t>(frame.size()),
                           .time_ns = kStart})
                  .ok());
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(Lines(Replay())[0], Line(1, "drop", "malformed", "", "", "none", 0));
}

TEST_F(ReplayTest, SummaryForPeopleAndYaml) {
  WriteCapture({Web(1), Framed(Ipv4{}.With(Tcp{.destination_port = 81}))});
  const Result table = Replay("");
  EXPECT_EQ(table.exit_status, 0);
  EXPECT_THAT(table.out, StartsWith("2 packets in 0s, 1 frame sent\n"));
  EXPECT_THAT(table.out, HasSubstr("port_not_served"));
  EXPECT_THAT(table.out, HasSubstr("web-"));
  const Result yaml = Replay("-o yaml");
  EXPECT_THAT(yaml.out, StartsWith("- {\"packet\": 1, "));
  EXPECT_THAT(yaml.out, HasSubstr("\n- {\"summary\": "));
}

TEST_F(ReplayTest, OutIsOptional) {
  WriteCapture({Web(1)});
  const Result result = Run(absl::StrCat("replay --config ", Path("guideway.yaml"), " --in ",
                                         Path("in.pcap"), " -o json"));
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.out, HasSubstr("\"frames\": 1}"));
}

TEST_F(ReplayTest, ExitStatuses) {
  WriteCapture({Web(1), Web(2)});
  EXPECT_EQ(Replay("--down web/web-9").exit_status, 2);
  EXPECT_THAT(Replay("--down web/web-9").err, HasSubstr("web-1, web-2, web-3"));
  EXPECT_EQ(Replay("--down nobody/web-1").exit_status, 2);
  EXPECT_THAT(Replay("--down nobody/web-1").err, HasSubstr("web, dns, lost"));
  EXPECT_EQ(Replay("--down web").exit_status, 2);
  EXPECT_EQ(Run(absl::StrCat("replay --config ", Path("guideway.yaml"))).exit_status, 2);
  EXPECT_EQ(Run(absl::StrCat("replay --in ", Path("in.pcap"))).exit_status, 2);

  const std::string whole = Slurp(Path("in.pcap"));
  std::ofstream(Path("in.pcap"), std::ios::binary) << whole.substr(0, whole.size() - 5);
  const Result cut = Replay();
  EXPECT_EQ(cut.exit_status, 1);
  EXPECT_EQ(Lines(cut).size(), 2u) << "what was whole is answered, and summed up";
  EXPECT_THAT(cut.out, HasSubstr("\"packets\": 1,"));
  EXPECT_THAT(cut.err, HasSubstr("in.pcap"));

  std::ofstream(Path("in.pcap"), std::ios::binary) << "this is not a capture at all";
  EXPECT_EQ(Replay().exit_status, 2);
  std::filesystem::remove(Path("in.pcap"));
  EXPECT_EQ(Replay().exit_status, 2);

  WriteCapture({Web(1)});
  std::ofstream(Path("guideway.yaml")) << "services: 7\n";
  EXPECT_EQ(Replay().exit_status, 1);
  EXPECT_THAT(Replay().err, HasSubstr("guideway.yaml:1:11"));
}

TEST_F(ReplayTest, WithKernelRoutingEveryNextHopIsTheSame) {
  std::ofstream(Path("guideway.yaml")) << R"(
interfaces: [{ name: uplink, device: net_null0, kernel_interface: gw0 }]
tunnel: { source_ipv4: 192.0.2.1 }
services:
  - name: web
    vips: [198.51.100.10]
    protocol: tcp
    ports: [80]
    forwarding: ipip
    backends: [{ name: web-1, address: 10.0.0.11 }]
)";
  WriteCapture({Web(1)});
  const Result result = Replay();
  EXPECT_EQ(result.exit_status, 0) << result.err;
  const std::vector<Timed> sent = ReadSent();
  ASSERT_EQ(sent.size(), 1u) << result.out;
  EXPECT_EQ(Hex(Slice(sent[0].frame, 0, 12)), Hex({2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 0x01}));
}

TEST_F(ReplayTest, ExplainsAForwardedPacket) {
  const Result json = Explain("tcp 203.0.113.7:40000 > 198.51.100.10:80 syn");
  EXPECT_EQ(json.exit_status, 0) << json.err;
  EXPECT_THAT(json.out, StartsWith("{\n \"verdict\": \"forward\",\n \"reason\": null,\n "
                                   "\"service\": \"web\",\n \"backend\": \"web-"));
  EXPECT_THAT(json.out, HasSubstr(" \"flow\": \"new\",\n \"slot\": "));
  EXPECT_THAT(json.out, HasSubstr("\"home\": \"web-"));
  EXPECT_THAT(json.out, HasSubstr("IPv4 192.0.2.1 > 10.0.0."));
  EXPECT_THAT(json.out, EndsWith("\"]\n}\n"));

  // The replay of that packet goes to the same backend.
  WriteCapture({Web(40000)});
  const std::string line = Lines(Replay())[0];
  const std::string backend = line.substr(line.find("web-"), 5);
  EXPECT_THAT(json.out, HasSubstr(absl::StrCat("\"backend\": \"", backend, "\"")));

  const Result table = Explain("tcp 203.0.113.7:40000 > 198.51.100.10:80 syn", "");
  EXPECT_THAT(table.out, StartsWith("tcp 203.0.113.7:40000 > 198.51.100.10:80 syn\n"));
  EXPECT_THAT(table.out, HasSubstr("reached by ipip through inside, next hop 02:00:00:00:00:bb"));
  EXPECT_THAT(table.out, EndsWith(absl::StrCat("verdict: forward, web/", backend, "\n")));
}

TEST_F(ReplayTest, ExplainsWhatIsNotForwarded) {
  const struct {
    const char* packet;
    const char* options;
    std::vector<std::string> parts;
  } rows[] = {
      {"tcp 203.0.113.7:1 > 198.51.100.10:81", "", {"\"port_not_served\"", "web takes tcp 80"}},
      {"udp 203.0.113.7:1 > 198.51.100.10:80", "", {"\"port_not_served\""}},
      {"tcp 203.0.113.7:1 > 192.0.2.77:81", "", {"\"punt\"", "is no VIP"}},
      {"tcp 203.0.113.7:1 > 198.51.100.10:8080",
       "",
       {"\"port_not_served\"",
        ": wide takes it at 198.51.100.0/28, but the longest prefix decides alone"}},
      {"icmp 203.0.113.7 > 198.51.100.10", "", {"\"reply\"", "ICMP type 0"}},
      {"tcp 198.51.100.10:1 > 198.51.100.10:80", "", {"\"malformed\""}},
      {"tcp [2001:db8::1]:1 > [2001:db8::2]:80", "", {"\"punt\""}},
      {"tcp 203.0.113.7:1 > 198.51.100.10:80",
       "--down web/web-1 --down web/web-2",
       {"\"no_backend\"", "\"backend\": null", "\"home\": \"web-"}},
      {"tcp 203.0.113.7:1 > 198.51.100.99:80 syn",
       "",
       {"\"forward\"", "round_robin picks far", "\"slot\": null"}},
  };
  for (const auto& row : rows) {
    const Result result = Explain(row.packet, absl::StrCat("-o json ", row.options));
    EXPECT_EQ(result.exit_status, 0) << row.packet << "\n" << result.err;
    for (const std::string& part : row.parts) {
      EXPECT_THAT(result.out, HasSubstr(part)) << row.packet;
    }
  }
}

TEST_F(ReplayTest, ExplainRefusesWhatIsNoPacket) {
  EXPECT_EQ(Explain("tcp 203.0.113.7 > 198.51.100.10:80").exit_status, 2);
  EXPECT_THAT(Explain("tcp 203.0.113.7 > 198.51.100.10:80").err, HasSubstr("no port"));
  EXPECT_EQ(Explain("tcp 203.0.113.7:1 > 198.51.100.10:80", "--down web/x").exit_status, 2);
  const std::string no_daemon = "explain --socket /nowhere 'tcp 203.0.113.7:1 > 198.51.100.10:80'";
  EXPECT_EQ(Run(no_daemon).exit_status, 1) << "without --config it asks the daemon";
  EXPECT_THAT(Run(no_daemon).err, AllOf(HasSubstr("guidewayd does not run here"),
                                        HasSubstr("\n`guideway explain --config FILE PACKET`")));
  EXPECT_EQ(Run(no_daemon + " --down web/web-1").exit_status, 2);
  EXPECT_EQ(Run(absl::StrCat("explain --config ", Path("none.yaml"),
                             " tcp 203.0.113.7:1 '>' 198.51.100.10:80"))
                .exit_status,
            1);
  EXPECT_EQ(Run(absl::StrCat("explain --config ", Path("guideway.yaml"),
                             " tcp 203.0.113.7:1 '>' 198.51.100.10:80 syn"))
                .exit_status,
            0);
}

}  // namespace
}  // namespace guideway
