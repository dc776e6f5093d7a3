// Captures, made byte by byte: what the formats allow, what libpcap makes of it, and what nobody
// should have written.
#include "tools/capture.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/program.h"

namespace guideway {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

constexpr uint64_t kSecond = 1'000'000'000;
// 2026-01-02 03:04:05
constexpr uint32_t kDay = 1767323045;

// Numbers in one byte order, one after the other.
class Writer {
 public:
  explicit Writer(bool big = false) : big_(big) {}

  Writer& U8(uint8_t v) { return Text({static_cast<char>(v)}); }
  Writer& U16(uint16_t v) { return Number(v, 2); }
  Writer& U32(uint32_t v) { return Number(v, 4); }
  Writer& U64(uint64_t v) { return Number(v, 8); }
  Writer& Text(const std::string& text) {
    bytes_ += text;
    return *this;
  }
  // With zeros, to a multiple of 4.
  Writer& Pad() { return Text(std::string((4 - bytes_.size() % 4) % 4, 0)); }

  bool big() const { return big_; }
  const std::string& bytes() const { return bytes_; }

 private:
  Writer& Number(uint64_t v, int size) {
    for (int i = 0; i < size; ++i) {
      bytes_ += static_cast<char>(v >> 8 * (big_ ? size - 1 - i : i));
    }
    return *this;
  }

  bool big_;
  std::string bytes_;
};

// --- pcap ----------------------------------------------------------------------------------------

struct Pcap {
  bool big = false;
  uint32_t magic = 0xa1b2c3d4;
  uint32_t snap_length = 262144;
  uint32_t link_type = 1;

  std::string Header() const {
    return Writer(big)
        .U32(magic)
        .U16(2)
        .U16(4)
        .U32(0)
        .U32(0)
        .U32(snap_length)
        .U32(link_type)
        .bytes();
  }
  std::string Packet(uint32_t seconds, uint32_t fraction, const std::string& data,
                     uint32_t original_length) const {
    return Record(seconds, fraction, static_cast<uint32_t>(data.size()), original_length) + data;
  }
  std::string Packet(uint32_t seconds, uint32_t fraction, const std::string& data) const {
    return Packet(seconds, fraction, data, static_cast<uint32_t>(data.size()));
  }
  std::string Record(uint32_t seconds, uint32_t fraction, uint32_t captured,
                     uint32_t original_length) const {
    return Writer(big).U32(seconds).U32(fraction).U32(captured).U32(original_length).bytes();
  }
};
constexpr uint32_t kNanoseconds = 0xa1b23c4d;

// --- pcapng --------------------------------------------------------------------------------------

struct Pcapng {
  bool big = false;

  Writer W() const { return Writer(big); }
  std::string Block(uint32_t type, const std::string& body) const {
    const std::string padded = Writer().Text(body).Pad().bytes();
    const auto size = static_cast<uint32_t>(padded.size() + 12);
    return W().U32(type).U32(size).Text(padded).U32(size).bytes();
  }
  std::string Section() const {
    return Block(0x0a0d0d0a, W().U32(0x1a2b3c4d).U16(1).U16(0).U64(UINT64_MAX).bytes());
  }
  std::string Option(uint16_t code, const std::string& value) const {
    return W().U16(code).U16(static_cast<uint16_t>(value.size())).Text(value).Pad().bytes();
  }
  std::string Resolution(uint8_t resolution) const {
    return Option(9, std::string(1, static_cast<char>(resolution)));
  }
  std::string Interface(uint32_t snap_length = 262144, const std::string& options = "",
                        uint16_t link_type = 1) const {
    return Block(1, W().U16(link_type)
                        .U16(0)
                        .U32(snap_length)
                        .Text(options)
                        .Text(options.empty() ? "" : Option(0, ""))
                        .bytes());
  }
  std::string Packet(uint64_t time, const std::string& data, uint32_t interface = 0,
                     uint32_t original_length = 0) const {
    const auto size = static_cast<uint32_t>(data.size());
    return Block(6, W().U32(interface)
                        .U32(static_cast<uint32_t>(time >> 32))
                        .U32(static_cast<uint32_t>(time))
                        .U32(size)
                        .U32(std::max(size, original_length))
                        .Text(data)
                        .bytes());
  }
  std::string SimplePacket(const std::string& data, uint32_t original_length = 0) const {
    const auto size = static_cast<uint32_t>(data.size());
    return Block(3, W().U32(std::max(size, original_length)).Text(data).bytes());
  }
  // Of before pcapng 1.0.
  std::string OldPacket(uint64_t time, const std::string& data) const {
    const auto size = static_cast<uint32_t>(data.size());
    return Block(2, W().U16(0)
                        .U16(0)
                        .U32(static_cast<uint32_t>(time >> 32))
                        .U32(static_cast<uint32_t>(time))
                        .U32(size)
                        .U32(size)
                        .Text(data)
                        .bytes());
  }
};

// --- reading -------------------------------------------------------------------------------------

struct Got {
  std::string bytes;
  uint32_t original_length;
  uint64_t time_ns;

  friend bool operator==(const Got&, const Got&) = default;
  friend void PrintTo(const Got& got, std::ostream* out) {
    *out << got.bytes.size() << " bytes of " << got.original_length << " at " << got.time_ns;
  }
};

std::string Text(const absl::Status& status) { return std::string(status.message()); }

struct Reading {
  absl::Status open;
  std::vector<Got> packets;
  absl::Status end;
};

class CaptureTest : public testing::Test {
 protected:
  CaptureTest() {
    std::string name = std::filesystem::temp_directory_path().string() + "/guideway.XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~CaptureTest() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  std::string WriteFile(const std::string& bytes, const std::string& name = "in.pcap") const {
    std::ofstream(Path(name), std::ios::binary) << bytes;
    return Path(name);
  }

  static Reading ReadFile(const std::string& path) {
    Reading reading;
    absl::StatusOr<CaptureReader> reader = CaptureReader::Open(path);
    reading.open = reader.status();
    if (!reader.ok()) return reading;
    CapturedPacket packet;
    absl::StatusOr<bool> more;
    while ((more = reader->Next(&packet)).ok() && *more) {
      reading.packets.push_back(
          {{packet.bytes.begin(), packet.bytes.end()}, packet.original_length, packet.time_ns});
    }
    reading.end = more.status();
    EXPECT_EQ(reader->Next(&packet).status(), reading.end) << "the answer stays the same";
    return reading;
  }
  Reading Read(const std::string& bytes) const { return ReadFile(WriteFile(bytes)); }

  // Of a capture without faults.
  std::vector<Got> Packets(const std::string& bytes) const {
    Reading reading = Read(bytes);
    EXPECT_EQ(reading.open, absl::OkStatus());
    EXPECT_EQ(reading.end, absl::OkStatus());
    return reading.packets;
  }

  std::string directory_;
};

TEST_F(CaptureTest, PcapOfEitherResolutionAndByteOrder) {
  for (bool big : {false, true}) {
    for (bool nanoseconds : {false, true}) {
      const Pcap pcap = {.big = big, .magic = nanoseconds ? kNanoseconds : 0xa1b2c3d4};
      EXPECT_THAT(
          Packets(pcap.Header() + pcap.Packet(kDay, 999999, "first packet") +
                  pcap.Packet(kDay + 1, 7, std::string("\0\xff", 2), 1500)),
          ElementsAre(
              Got{"first packet", 12, kDay * kSecond + (nanoseconds ? 999999 : 999999000)},
              Got{std::string("\0\xff", 2), 1500, (kDay + 1) * kSecond + (nanoseconds ? 7 : 7000)}))
          << big << nanoseconds;
    }
  }
}

TEST_F(CaptureTest, PcapngOfEitherByteOrder) {
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    EXPECT_THAT(Packets(ng.Section() + ng.Interface() +
                        ng.Packet(uint64_t{kDay} * 1000000 + 5, "first", 0, 99) +
                        ng.OldPacket(uint64_t{kDay} * 1000000 + 6, "second")),
                ElementsAre(Got{"first", 99, kDay * kSecond + 5000},
                            Got{"second", 6, kDay * kSecond + 6000}))
        << big;
  }
}

TEST_F(CaptureTest, TimeNeverRunsBack) {
  const Pcap pcap = {.magic = kNanoseconds};
  EXPECT_THAT(
      Packets(pcap.Header() + pcap.Packet(9, 5, "a") + pcap.Packet(9, 4, "b") +
              pcap.Packet(8, 999999999, "c") + pcap.Packet(9, 5, "d") + pcap.Packet(9, 6, "e")),
      ElementsAre(Got{"a", 1, 9 * kSecond + 5}, Got{"b", 1, 9 * kSecond + 5},
                  Got{"c", 1, 9 * kSecond + 5}, Got{"d", 1, 9 * kSecond + 5},
                  Got{"e", 1, 9 * kSecond + 6}));
}

TEST_F(CaptureTest, TimesAtTheEnds) {
  Pcap pcap = {.magic = kNanoseconds};
  EXPECT_THAT(Packets(pcap.Header() + pcap.Packet(0, 0, "") + pcap.Packet(0x7fffffff, 0, "") +
                      pcap.Packet(0x80000000, 1, "") + pcap.Packet(UINT32_MAX, 999999999, "") +
                      pcap.Packet(UINT32_MAX, UINT32_MAX, "")),
              ElementsAre(Got{"", 0, 0}, Got{"", 0, 0x7fffffff * kSecond},
                          Got{"", 0, 0x80000000 * kSecond + 1}, Got{"", 0, kLatestTime},
                          Got{"", 0, kLatestTime}));
  // Fractions of a second and more: the nearest that is right.
  for (const auto& [fraction, ns] : {std::pair<uint32_t, uint64_t>{1000000000, 999999999},
                                     {0x7fffffff, 999999999},
                                     {0x80000000, 0},
                                     {UINT32_MAX, 0}}) {
    EXPECT_THAT(Packets(pcap.Header() + pcap.Packet(3, fraction, "")),
                ElementsAre(Got{"", 0, 3 * kSecond + ns}))
        << fraction;
  }
  pcap.magic = 0xa1b2c3d4;
  for (uint32_t fraction : {1000000u, 5000000u, 0x7fffffffu, 0x80000000u, UINT32_MAX}) {
    const std::vector<Got> packets = Packets(pcap.Header() + pcap.Packet(3, fraction, ""));
    ASSERT_THAT(packets, SizeIs(1));
    EXPECT_EQ(packets[0].time_ns / kSecond, 3u) << fraction;
  }
  const Pcapng ng;
  EXPECT_THAT(Packets(ng.Section() + ng.Interface() + ng.Packet(UINT64_MAX, "")),
              ElementsAre(Got{"", 0, kLatestTime}));
}

TEST_F(CaptureTest, PacketsOfEverySize) {
  const std::string longest(kLongestCaptured, 'x');
  const Pcap pcap;
  EXPECT_THAT(Packets(pcap.Header() + pcap.Packet(1, 0, "") + pcap.Packet(2, 0, longest) +
                      pcap.Packet(3, 0, "", 60) + pcap.Packet(4, 0, "y")),
              ElementsAre(Got{"", 0, kSecond}, Got{longest, kLongestCaptured, 2 * kSecond},
                          Got{"", 60, 3 * kSecond}, Got{"y", 1, 4 * kSecond}));
  const Pcapng ng;
  EXPECT_THAT(Packets(ng.Section() + ng.Interface() + ng.Packet(1000000, "") +
                      ng.Packet(2000000, longest) + ng.SimplePacket(longest)),
              ElementsAre(Got{"", 0, kSecond}, Got{longest, kLongestCaptured, 2 * kSecond},
                          Got{longest, kLongestCaptured, 2 * kSecond}));
}

TEST_F(CaptureTest, WhatWasCapturedIsNeverMoreThanThePacket) {
  const Pcap pcap;
  EXPECT_THAT(Packets(pcap.Header() + pcap.Packet(1, 0, "abcd", 2)),
              ElementsAre(Got{"abcd", 4, kSecond}));
}

// Some programs write a snap length and then longer packets.
TEST_F(CaptureTest, TheSnapLengthOfPcapCutsNothing) {
  for (uint32_t snap_length : {0u, 2u, 4u, UINT32_MAX}) {
    const Pcap pcap = {.snap_length = snap_length};
    EXPECT_THAT(Packets(pcap.Header() + pcap.Packet(1, 0, "abcd")),
                ElementsAre(Got{"abcd", 4, kSecond}))
        << snap_length;
  }
}

TEST_F(CaptureTest, WithoutPackets) {
  EXPECT_THAT(Packets(Pcap{}.Header()), IsEmpty());
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    EXPECT_THAT(Packets(ng.Section() + ng.Interface()), IsEmpty());
    EXPECT_THAT(Packets(ng.Section()), IsEmpty()) << "no interface either";
    EXPECT_THAT(Packets(ng.Section() + ng.Block(5, "abcd")), IsEmpty());
  }
}

// --- what pcapng allows
// ----------------------------------------------------------------------------

TEST_F(CaptureTest, InterfacesOfDifferentSnapLengths) {
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    EXPECT_THAT(
        Packets(ng.Section() + ng.Interface(4) + ng.Interface(65535) + ng.Interface(0) +
                ng.Packet(1000000, "abcd", 0, 1500) + ng.Packet(2000000, "a longer one", 1) +
                ng.Interface(262144) + ng.Packet(3000000, std::string(2000, 'x'), 3)),
        ElementsAre(Got{"abcd", 1500, kSecond}, Got{"a longer one", 12, 2 * kSecond},
                    Got{std::string(2000, 'x'), 2000, 3 * kSecond}))
        << big;
  }
}

// How much of the packet they have follows from the snap length of the first interface.
TEST_F(CaptureTest, SimplePackets) {
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    EXPECT_THAT(
        Packets(ng.Section() + ng.Interface(5) + ng.Interface(100) + ng.Packet(1000000, "abc") +
                ng.SimplePacket("abcde", 1500) + ng.SimplePacket("abc") + ng.SimplePacket("")),
        ElementsAre(Got{"abc", 3, kSecond}, Got{"abcde", 1500, kSecond}, Got{"abc", 3, kSecond},
                    Got{"", 0, kSecond}))
        << big;
    // Each section has its first interface.
    EXPECT_THAT(Packets(ng.Section() + ng.Interface(2) + ng.SimplePacket("ab", 9) + ng.Section() +
                        ng.Interface(6) + ng.SimplePacket("abcdef", 9) + ng.Section() +
                        ng.Interface(0) + ng.SimplePacket("abcdefghi")),
                ElementsAre(Got{"ab", 9, 0}, Got{"abcdef", 9, 0}, Got{"abcdefghi", 9, 0}))
        << big;
  }
}

TEST_F(CaptureTest, BlocksThatHaveNoPacketArePassedOver) {
  const Pcapng ng;
  const std::string other = ng.Block(4, "names") + ng.Block(5, "some statistics") +
                            ng.Block(10, "secrets") + ng.Block(0xbad, "custom") +
                            ng.Block(0x77777777, "") + ng.Block(0x80000001, "local");
  EXPECT_THAT(Packets(ng.Section() + other + ng.Interface() + other + ng.Packet(1000000, "a") +
                      other + ng.Packet(2000000, "b") + other),
              ElementsAre(Got{"a", 1, kSecond}, Got{"b", 1, 2 * kSecond}));
}

TEST_F(CaptureTest, ResolutionsOfTimeStamps) {
  struct {
    uint8_t resolution;
    uint64_t time, time_ns;
  } rows[] = {
      {0, 77, 77 * kSecond},
      {3, 77123, 77 * kSecond + 123000000},
      {6, 77000123, 77 * kSecond + 123000},
      {9, kDay * kSecond + 123456789, kDay * kSecond + 123456789},
      {12, 77 * kSecond * 1000 + 123456789999, 77 * kSecond + 123456789},
      {0x80 | 0, 77, 77 * kSecond},
      {0x80 | 1, 77 * 2 + 1, 77 * kSecond + 500000000},
      {0x80 | 10, 77 * 1024 + 256, 77 * kSecond + 250000000},
      {0x80 | 32, (77ull << 32) + (3ull << 30), 77 * kSecond + 750000000},
  };
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    for (const auto& row : rows) {
      EXPECT_THAT(Packets(ng.Section() + ng.Interface(0, ng.Resolution(row.resolution)) +
                          ng.Packet(row.time, "a")),
                  ElementsAre(Got{"a", 1, row.time_ns}))
          << big << " " << int{row.resolution};
    }
    // Each interface has its own.
    EXPECT_THAT(Packets(ng.Section() + ng.Interface(0, ng.Resolution(9)) + ng.Interface() +
                        ng.Packet(5 * kSecond + 1, "a", 0) + ng.Packet(6000000, "b", 1)),
                ElementsAre(Got{"a", 1, 5 * kSecond + 1}, Got{"b", 1, 6 * kSecond}));
  }
}

TEST_F(CaptureTest, OffsetsOfTimeStamps) {
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    const auto times = [&](int64_t offset, uint64_t time) {
      const std::string option = ng.Option(14, ng.W().U64(static_cast<uint64_t>(offset)).bytes());
      const std::vector<Got> packets =
          Packets(ng.Section() + ng.Interface(0, option) + ng.Packet(time, ""));
      return packets.empty() ? 1 : packets[0].time_ns;
    };
    EXPECT_EQ(times(kDay, 5000000), (kDay + 5) * kSecond);
    EXPECT_EQ(times(-3, 5000000), 2 * kSecond);
    EXPECT_EQ(times(-9, 5000000), 0u) << "before 1970";
    EXPECT_EQ(times(INT64_MIN, 0), 0u);
    EXPECT_EQ(times(INT64_MAX, 0), kLatestTime);
    EXPECT_EQ(times(UINT32_MAX, 999999), UINT32_MAX * kSecond + 999999000);
    EXPECT_EQ(times(int64_t{UINT32_MAX} + 1, 0), kLatestTime);
  }
}

TEST_F(CaptureTest, SeveralSections) {
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    EXPECT_THAT(
        Packets(ng.Section() + ng.Interface(100) + ng.Packet(1000000, "a") + ng.Section() +
                ng.Interface(200, ng.Resolution(9)) + ng.Packet(2 * kSecond, "b") + ng.Section()),
        ElementsAre(Got{"a", 1, kSecond}, Got{"b", 1, 2 * kSecond}));
  }
  const Pcapng little, big = {true};
  const Reading reading = Read(little.Section() + little.Interface() + little.Packet(1000000, "a") +
                               big.Section() + big.Interface() + big.Packet(2000000, "b"));
  EXPECT_THAT(reading.packets, ElementsAre(Got{"a", 1, kSecond}));
  EXPECT_EQ(reading.end.code(), absl::StatusCode::kDataLoss) << "libpcap does not read it";
}

// --- wrong calls
// -----------------------------------------------------------------------------------

TEST_F(CaptureTest, NotThere) {
  Reading reading = ReadFile(Path("nowhere.pcap"));
  EXPECT_EQ(reading.open.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(reading.open.message(), Path("nowhere.pcap") + ": No such file or directory");
  reading = ReadFile(directory_);
  EXPECT_THAT(Text(reading.open), HasSubstr("Is a directory"));
  EXPECT_NE(reading.open.code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(ReadFile("").open.ok());
  // Nothing is there to be read: EIO.
  EXPECT_THAT(Text(ReadFile("/proc/self/mem").open), HasSubstr("Input/output error"));
}

TEST_F(CaptureTest, NotACapture) {
  const Pcap pcap;
  const Pcapng ng;
  for (const std::string& bytes :
       {std::string(), std::string("\xd4"), std::string("interfaces: []\n"), std::string(5000, 0),
        std::string("\x0a\x0d\x0d\x0a"), std::string("\x1f\x8b\x08 zipped"),
        pcap.Header().substr(0, 23), ng.Section().substr(0, 20),
        ng.Section() + ng.Interface().substr(0, 19), ng.Section() + ng.Packet(1, "a")}) {
    const Reading reading = Read(bytes);
    EXPECT_EQ(reading.open.code(), absl::StatusCode::kInvalidArgument) << bytes.size();
    EXPECT_THAT(Text(reading.open),
                StartsWith(Path("in.pcap") + ": not a capture (pcap or pcapng): "));
  }
}

TEST_F(CaptureTest, OtherLinkTypes) {
  for (uint32_t type : {0u, 101u, 113u, 276u}) {
    const Pcap pcap = {.link_type = type};
    Reading reading = Read(pcap.Header() + pcap.Packet(1, 0, "abcd"));
    EXPECT_EQ(reading.open.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Text(reading.open),
                AllOf(HasSubstr(": a capture of "), HasSubstr("; allowed is Ethernet")));
    const Pcapng ng;
    reading = Read(ng.Section() + ng.Interface(0, "", static_cast<uint16_t>(type)));
    EXPECT_EQ(reading.open.code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(Text(Read(Pcap{.link_type = 113}.Header()).open),
              HasSubstr("a capture of LINUX_SLL;"));
}

TEST_F(CaptureTest, AFurtherInterfaceOfAnotherLinkType) {
  for (bool big : {false, true}) {
    const Pcapng ng = {big};
    const Reading reading =
        Read(ng.Section() + ng.Interface() + ng.Packet(1000000, "a") + ng.Interface(0, "", 113) +
             ng.Packet(2000000, "b", 1) + ng.Packet(3000000, "c", 0));
    EXPECT_THAT(reading.packets, ElementsAre(Got{"a", 1, kSecond}));
    EXPECT_EQ(reading.end.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Text(reading.end), HasSubstr("several link types; allowed is Ethernet"));
  }
  // An error before it comes first.
  const Pcapng ng;
  EXPECT_EQ(Read(ng.Section() + ng.Interface() + ng.Packet(1, "a", 9) + ng.Interface(0, "", 113))
                .end.code(),
            absl::StatusCode::kDataLoss);
}

// --- captures that are cut off or damaged
// ----------------------------------------------------------

TEST_F(CaptureTest, CutOffAnywhere) {
  const Pcap pcap;
  const Pcapng ng;
  const std::string pcap_start = pcap.Header() + pcap.Packet(1, 0, "first");
  const std::string ng_start = ng.Section() + ng.Interface() + ng.Packet(1000000, "first");
  for (const auto& [start, last] : {std::pair{pcap_start, pcap.Packet(2, 0, "the last one")},
                                    {ng_start, ng.Packet(2000000, "the last one")},
                                    {ng_start, ng.SimplePacket("the last one")},
                                    {ng_start, ng.Interface(7)},
                                    {ng_start, ng.Section()},
                                    {ng_start, ng.Block(77, "unknown")}}) {
    for (size_t size = 1; size < last.size(); ++size) {
      const Reading reading = Read(start + last.substr(0, size));
      EXPECT_EQ(reading.open, absl::OkStatus());
      EXPECT_THAT(reading.packets, ElementsAre(Got{"first", 5, kSecond})) << size;
      EXPECT_EQ(reading.end.code(), absl::StatusCode::kDataLoss) << size;
      EXPECT_THAT(Text(reading.end),
                  AllOf(StartsWith(Path("in.pcap") + ": cut off or damaged after packet 1: "),
                        HasSubstr("truncated")))
          << size;
    }
    EXPECT_EQ(Read(start).end, absl::OkStatus());
    EXPECT_EQ(Read(start + last).end, absl::OkStatus());
  }
}

TEST_F(CaptureTest, AbsurdLengths) {
  const Pcap pcap;
  for (uint32_t captured : {kLongestCaptured + 1, 0x7fffffffu, 0x80000000u, UINT32_MAX}) {
    const Reading reading = Read(pcap.Header() + pcap.Packet(1, 0, "a") +
                                 pcap.Record(2, 0, captured, 60) + std::string(300000, 'x'));
    EXPECT_THAT(reading.packets, SizeIs(1));
    EXPECT_EQ(reading.end.code(), absl::StatusCode::kDataLoss) << captured;
  }
  const Pcapng ng;
  const std::string start = ng.Section() + ng.Interface() + ng.Packet(1000000, "a");
  const auto spb = [&](uint32_t original_length, uint32_t trailer) {
    return ng.W().U32(3).U32(20).U32(original_length).Text("abcd").U32(trailer).bytes();
  };
  EXPECT_THAT(Packets(start + spb(4, 20)), SizeIs(2));
  const auto epb = [&](uint32_t captured) {
    return ng.Block(
        6, ng.W().U32(0).U32(0).U32(0).U32(captured).U32(captured).U32(0x12345678).bytes());
  };
  for (const std::string& bad : {epb(5),
                                 epb(kLongestCaptured),
                                 epb(kLongestCaptured + 1),
                                 epb(UINT32_MAX),
                                 spb(5, 20),
                                 spb(UINT32_MAX, 20),
                                 spb(4, 24),
                                 ng.Block(6, "too short"),
                                 ng.Block(3, ""),
                                 ng.Block(1, "abcd"),
                                 ng.Block(0x0a0d0d0a, "abcd"),
                                 ng.Packet(1, "a", 1),
                                 ng.Packet(1, "a", UINT32_MAX),
                                 ng.W().U32(6).U32(0).bytes(),
                                 ng.W().U32(6).U32(8).U32(8).bytes(),
                                 ng.W().U32(6).U32(13).Text("abcdefgh").bytes(),
                                 ng.W().U32(6).U32(UINT32_MAX).Text("abcdefgh").bytes(),
                                 ng.W().U32(6).U32(UINT32_MAX - 3).Text("abcdefgh").bytes(),
                                 ng.W().U32(5).U32(16).U32(0).U32(20).bytes(),
                                 ng.Section() + ng.Packet(1, "a")}) {
    const Reading reading = Read(start + bad + ng.Packet(1, "after"));
    EXPECT_THAT(reading.packets, SizeIs(1));
    EXPECT_EQ(reading.end.code(), absl::StatusCode::kDataLoss) << bad.size();
  }
}

// Whatever the bytes, there is an end, and what the header promises holds up to it.
TEST_F(CaptureTest, RandomDamage) {
  const Pcap pcap, swapped = {.big = true, .magic = kNanoseconds};
  const Pcapng ng, big = {true};
  std::vector<std::string> captures;
  for (const Pcap& p : {pcap, swapped}) {
    captures.push_back(p.Header() + p.Packet(kDay, 1, std::string(60, 'a')) +
                       p.Packet(kDay + 1, 5, "", 80) + p.Packet(kDay + 2, 7, "abcd", 1500));
  }
  for (const Pcapng& n : {ng, big}) {
    captures.push_back(n.Section() + n.Interface(96, n.Resolution(9)) + n.Interface(0) +
                       n.Packet(kDay * kSecond, std::string(60, 'a')) + n.SimplePacket("abc", 99) +
                       n.Block(5, "statistics") + n.Section() + n.Interface(7) +
                       n.OldPacket(1000000, "abcd") + n.Packet(1000000, "abcd"));
  }
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  int opened = 0, whole = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string bytes = captures[below(captures.size())];
    for (size_t changes = 1 + below(4); changes > 0; --changes) {
      const size_t at = below(bytes.size());
      switch (below(5)) {
        case 0: bytes[at] = static_cast<char>(random()); break;
        case 1: bytes[at] = static_cast<char>(bytes[at] ^ 1 << below(8)); break;
        case 2: bytes.erase(at, 1 + below(8)); break;
        case 3: bytes.insert(at, bytes.substr(below(bytes.size()), below(40))); break;
        case 4: bytes.replace(at / 4 * 4, 4, below(2) ? std::string(4, '\xff') : std::string(4, 0));
      }
      if (bytes.empty()) bytes = "x";
    }
    const Reading reading = Read(bytes);
    opened += reading.open.ok();
    whole += reading.open.ok() && reading.end.ok();
    EXPECT_NE(reading.open.code(), absl::StatusCode::kDataLoss);
    EXPECT_LE(reading.packets.size(), bytes.size() / 16);
    uint64_t time_ns = 0;
    for (const Got& got : reading.packets) {
      EXPECT_LE(got.bytes.size(), std::min<size_t>(got.original_length, bytes.size()));
      EXPECT_GE(got.time_ns, time_ns);
      EXPECT_LE(got.time_ns, kLatestTime);
      time_ns = got.time_ns;
    }
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ", round " << round;
  }
  EXPECT_GT(opened, 400);
  EXPECT_GT(whole, 100);
}

// --- pipes
// -----------------------------------------------------------------------------------------

// Something else as standard input, for as long as it lives.
class StandardInput {
 public:
  explicit StandardInput(int fd) : saved_(dup(STDIN_FILENO)) {
    dup2(fd, STDIN_FILENO);
    close(fd);
  }
  ~StandardInput() {
    dup2(saved_, STDIN_FILENO);
    close(saved_);
  }

 private:
  int saved_;
};

// In small pieces; closes.
void Feed(int fd, const std::string& bytes) {
  for (size_t n = 0; n < bytes.size();) {
    const ssize_t written = write(fd, bytes.data() + n, std::min<size_t>(bytes.size() - n, 7));
    if (written <= 0) break;
    n += static_cast<size_t>(written);
  }
  close(fd);
}

TEST_F(CaptureTest, APipe) {
  signal(SIGPIPE, SIG_IGN);
  const Pcap pcap;
  const Pcapng ng;
  for (const std::string& bytes :
       {pcap.Header() + pcap.Packet(1, 0, std::string(100000, 'x')) + pcap.Packet(2, 0, "b"),
        ng.Section() + ng.Interface() + ng.Packet(1000000, std::string(100000, 'x')) +
            ng.Packet(2000000, "b")}) {
    const auto expect_read = [](const Reading& reading) {
      EXPECT_EQ(reading.open, absl::OkStatus());
      EXPECT_EQ(reading.end, absl::OkStatus());
      EXPECT_THAT(reading.packets, ElementsAre(Got{std::string(100000, 'x'), 100000, kSecond},
                                               Got{"b", 1, 2 * kSecond}));
    };
    for (const char* path : {"-", "/dev/stdin"}) {
      int ends[2];
      ASSERT_EQ(pipe(ends), 0);
      std::thread feeder;
      {
        StandardInput input(ends[0]);
        feeder = std::thread([&] { Feed(ends[1], bytes); });
        expect_read(ReadFile(path));
      }
      feeder.join();
    }
    const std::string fifo = Path("fifo");
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    std::thread feeder([&] { Feed(open(fifo.c_str(), O_WRONLY), bytes); });
    expect_read(ReadFile(fifo));
    feeder.join();
    std::filesystem::remove(fifo);
  }
}

TEST_F(CaptureTest, ACaptureThatCannotBeReadToItsEnd) {
  const Pcap pcap;
  const Pcapng ng;
  // When the other side of a terminal is gone, the read after the last byte fails.
  const auto read = [](const std::string& bytes) {
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    EXPECT_EQ(grantpt(terminal) | unlockpt(terminal), 0);
    const int other_side = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    termios mode;
    EXPECT_EQ(tcgetattr(other_side, &mode), 0);
    cfmakeraw(&mode);
    EXPECT_EQ(tcsetattr(other_side, TCSANOW, &mode), 0);
    StandardInput input(terminal);
    Feed(other_side, bytes);
    return ReadFile("-");
  };
  for (const std::string& bytes :
       {pcap.Header() + pcap.Packet(1, 0, "a"), pcap.Header() + pcap.Packet(1, 0, "a") + "half",
        ng.Section() + ng.Interface() + ng.Packet(1000000, "a")}) {
    const Reading reading = read(bytes);
    EXPECT_THAT(reading.packets, ElementsAre(Got{"a", 1, kSecond}));
    EXPECT_EQ(reading.end.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(Text(reading.end), AllOf(StartsWith("<stdin>: "), HasSubstr("Input/output error")));
  }
  EXPECT_THAT(Text(read(ng.Section()).open), HasSubstr("Input/output error"));
}

// --- writing
// ---------------------------------------------------------------------------------------

CapturedPacket PacketOf(const std::string& data, uint32_t original_length, uint64_t time_ns) {
  return {.bytes = {reinterpret_cast<const uint8_t*>(data.data()), data.size()},
          .original_length = original_length,
          .time_ns = time_ns};
}

TEST_F(CaptureTest, WrittenBytes) {
  const std::string longest(kLongestCaptured, 'x');
  absl::StatusOr<CaptureWriter> writer =
      CaptureWriter::Open(WriteFile(std::string(kLongestCaptured * 2, 'y'), "out"));
  ASSERT_EQ(writer.status(), absl::OkStatus());
  EXPECT_EQ(writer->Write(PacketOf("abcd", 1500, kDay * kSecond + 123456789)), absl::OkStatus());
  EXPECT_EQ(writer->Write(PacketOf("", 0, 0)), absl::OkStatus());
  EXPECT_EQ(writer->Write(PacketOf(longest, kLongestCaptured, kLatestTime)), absl::OkStatus());
  EXPECT_EQ(writer->Close(), absl::OkStatus());
  EXPECT_EQ(writer->Close(), absl::OkStatus());
  const Pcap pcap = {.magic = kNanoseconds};
  const std::string expected = pcap.Header() + pcap.Packet(kDay, 123456789, "abcd", 1500) +
                               pcap.Packet(0, 0, "") + pcap.Packet(UINT32_MAX, 999999999, longest);
  EXPECT_TRUE(Slurp(Path("out")) == expected);
  EXPECT_EQ(Read(expected).packets.size(), 3u);
  EXPECT_EQ(writer->Write(PacketOf("a", 1, 0)).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(writer->Close(), absl::OkStatus());
}

TEST_F(CaptureTest, WhatIsWrittenWithoutClose) {
  { ASSERT_EQ(CaptureWriter::Open(Path("out")).status(), absl::OkStatus()); }
  EXPECT_EQ(Slurp(Path("out")), Pcap{.magic = kNanoseconds}.Header());
}

TEST_F(CaptureTest, PacketsThatACaptureHasNoPlaceFor) {
  absl::StatusOr<CaptureWriter> writer = CaptureWriter::Open(Path("out"));
  ASSERT_EQ(writer.status(), absl::OkStatus());
  const std::string too_long(kLongestCaptured + 1, 'x');
  for (const CapturedPacket& packet :
       {PacketOf(too_long, kLongestCaptured + 1, 0), PacketOf("abcd", 3, 0),
        PacketOf("abcd", 4, kLatestTime + 1)}) {
    EXPECT_EQ(writer->Write(packet).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(writer->Write(PacketOf("a", 1, 0)), absl::OkStatus());
  EXPECT_EQ(writer->Close(), absl::OkStatus());
  const Pcap pcap = {.magic = kNanoseconds};
  EXPECT_EQ(Slurp(Path("out")), pcap.Header() + pcap.Packet(0, 0, "a"));
}

TEST_F(CaptureTest, PathsThatCannotBeWritten) {
  const absl::Status nowhere = CaptureWriter::Open(Path("nowhere/out")).status();
  EXPECT_EQ(nowhere.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Text(nowhere), StartsWith(Path("nowhere/out") + ": "));
  EXPECT_FALSE(CaptureWriter::Open(directory_).ok());
  EXPECT_FALSE(CaptureWriter::Open("").ok());
}

TEST_F(CaptureTest, AFullDiskIsReported) {
  // Few bytes: Close is the first to know.
  absl::StatusOr<CaptureWriter> writer = CaptureWriter::Open("/dev/full");
  ASSERT_EQ(writer.status(), absl::OkStatus());
  EXPECT_EQ(writer->Write(PacketOf("a", 1, 0)), absl::OkStatus());
  absl::Status status = writer->Close();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "/dev/full: No space left on device");
  EXPECT_EQ(writer->Close(), status);

  // Many: Write says it, and goes on saying it.
  writer = CaptureWriter::Open("/dev/full");
  const std::string data(10000, 'x');
  status = absl::OkStatus();
  for (int i = 0; i < 1000 && status.ok(); ++i) status = writer->Write(PacketOf(data, 10000, 0));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "/dev/full: No space left on device");
  EXPECT_EQ(writer->Write(PacketOf("a", 1, 0)), status);
  EXPECT_EQ(writer->Close(), status);
}

TEST_F(CaptureTest, TheFileThatIsReadIsNotWritten) {
  const Pcap pcap;
  const std::string bytes = pcap.Header() + pcap.Packet(1, 0, std::string(100000, 'x'));
  const std::string path = WriteFile(bytes);
  std::filesystem::create_symlink(path, Path("symbolic"));
  std::filesystem::create_hard_link(path, Path("hard"));
  absl::StatusOr<CaptureReader> reader = CaptureReader::Open(path);
  ASSERT_EQ(reader.status(), absl::OkStatus());
  for (const std::string& name : {path, Path("symbolic"), Path("hard"), Path("./in.pcap")}) {
    const absl::Status status = CaptureWriter::Open(name, &*reader).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(Text(status), StartsWith(name + ": "));
    EXPECT_TRUE(Slurp(path) == bytes) << name;
  }
  EXPECT_EQ(CaptureWriter::Open(Path("other"), &*reader).status(), absl::OkStatus());
  EXPECT_EQ(CaptureWriter::Open("/dev/null", &*reader).status(), absl::OkStatus());
}

TEST_F(CaptureTest, BothCanBeMoved) {
  const Pcap pcap = {.magic = kNanoseconds};
  const std::string bytes = pcap.Header() + pcap.Packet(1, 2, "a") + pcap.Packet(3, 4, "bc", 60);
  CaptureReader reader = CaptureReader::Open(WriteFile(bytes)).value();
  CaptureWriter writer = CaptureWriter::Open(Path("out"), &reader).value();
  CapturedPacket packet;
  while (*reader.Next(&packet)) {
    EXPECT_EQ(writer.Write(packet), absl::OkStatus());
    CaptureReader other = std::move(reader);
    reader = std::move(other);
    CaptureWriter other_writer = std::move(writer);
    writer = std::move(other_writer);
  }
  EXPECT_EQ(writer.Close(), absl::OkStatus());
  EXPECT_EQ(Slurp(Path("out")), bytes);
}

}  // namespace
}  // namespace guideway
