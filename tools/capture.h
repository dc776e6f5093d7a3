// Captures of Ethernet frames: read from pcap and pcapng files, written as pcap, both by libpcap.
//
// Of a capture that is read, this always holds: time never runs back (a packet whose time stamp is
// before the one before has the time of the one before), and every time is from 1970 to
// kLatestTime, so that it can be written again. One that lies outside is moved to the nearer end.
//
// libpcap refuses some pcapng files that are legal. What comes of common programs is read all the
// same (capture.cc has how): interfaces with different snap lengths (`dumpcap -i a -s 64 -i b`,
// mergecap), simple packet blocks among them, a file without an interface. It refuses sections of
// different byte order in one file; that is an error where the second begins.
//
// Not safe from several threads at once. Reader and writer can be moved.
#ifndef GUIDEWAY_TOOLS_CAPTURE_H_
#define GUIDEWAY_TOOLS_CAPTURE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace guideway {

struct CapturedPacket {
  absl::Span<const uint8_t> bytes;  // as captured, from the Ethernet header on
  uint32_t original_length = 0;     // on the wire: more than the bytes if the capture cut it short
  uint64_t time_ns = 0;             // since 1970
};

inline constexpr uint32_t kLongestCaptured = 262144;
// What 32 bits of seconds can say: in February 2106.
inline constexpr uint64_t kLatestTime = uint64_t{UINT32_MAX} * 1'000'000'000 + 999'999'999;

// Reads pcap (micro- or nanoseconds) and pcapng, both in either byte order. Its errors, which name
// the file:
//
//   kDataLoss    the capture is cut off or damaged from here on; the packets before are good
//   any other    the call was wrong: there is no such file, it cannot be opened, it is not a
//                capture, or not of Ethernet
//
// Open never fails with kDataLoss: with nothing but a part of its first header, a file is not a
// capture. A capture without packets is one.
class CaptureReader {
 public:
  // «-» is standard input. A pipe will do.
  static absl::StatusOr<CaptureReader> Open(const std::string& path);
  CaptureReader(CaptureReader&&) noexcept;
  CaptureReader& operator=(CaptureReader&&) noexcept;
  ~CaptureReader();

  // The next packet, whose bytes are there until the next call; false at the end. After that and
  // after an error, the answer stays the same.
  absl::StatusOr<bool> Next(CapturedPacket* packet);

 private:
  friend class CaptureWriter;
  struct State;
  explicit CaptureReader(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

// Writes a little-endian pcap with nanoseconds, of snap length kLongestCaptured. The same packets
// make the same bytes.
class CaptureWriter {
 public:
  // Replaces what is there. Refuses, before anything is lost, to write to the file that `source`
  // reads (kInvalidArgument), by whatever name.
  static absl::StatusOr<CaptureWriter> Open(const std::string& path,
                                            const CaptureReader* source = nullptr);
  CaptureWriter(CaptureWriter&&) noexcept;
  CaptureWriter& operator=(CaptureWriter&&) noexcept;
  // Closes, and swallows what comes of it.
  ~CaptureWriter();

  // Buffered: an error of the disk may come with a later packet or with Close, and is final.
  // A packet that is too long, too late or longer than its original is refused (kInvalidArgument);
  // that is not final.
  absl::Status Write(const CapturedPacket& packet);
  // The first error that there was; OK if the system has taken every byte. The answer stays the
  // same.
  absl::Status Close();

 private:
  struct State;
  explicit CaptureWriter(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_CAPTURE_H_
