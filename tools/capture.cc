#include "tools/capture.h"

#include <fcntl.h>
#include <pcap/pcap.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

// pcap_dump writes in the order of the host.
static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kNsPerSecond = 1'000'000'000;

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<FILE, CloseFile>;

struct ClosePcap {
  void operator()(pcap_t* pcap) const { pcap_close(pcap); }
};
using Pcap = std::unique_ptr<pcap_t, ClosePcap>;

absl::Status ErrorOf(const std::string& path, int error) {
  return absl::ErrnoToStatus(error, path);
}

// --- what libpcap is given to read ---------------------------------------------------------------

// The bytes of a file, changed where libpcap would refuse what is legal:
//
// * Snap lengths become 0, «no limit»: libpcap wants those of all interfaces of a pcapng file to be
//   equal, and cuts the packets of a pcap file down to it.
// * A simple packet block, whose length on disk follows from the snap length of interface 0,
//   becomes an enhanced one, which says its length.
// * A pcapng file without an interface gets one at its end.
// * Before a further interface that is not Ethernet, the bytes end, and that is remembered.
//
// What is not understood is passed on as it is: it is libpcap that says what is wrong with it.
class Source {
 public:
  explicit Source(File file) : file_(std::move(file)) {}

  // For fopencookie.
  static ssize_t Read(void* source, char* to, size_t size) {
    return static_cast<Source*>(source)->Read(to, size);
  }

  bool is_pcapng() const { return is_pcapng_; }
  bool ended_at_other_link_type() const { return ended_at_other_link_type_; }

 private:
  enum class Form { kUnknown, kBlocks, kRaw };
  static constexpr uint32_t kSection = 0x0a0d0d0a;  // the same in either byte order
  static constexpr uint32_t kInterface = 1, kSimplePacket = 3, kEnhancedPacket = 6;
  static constexpr uint32_t kByteOrder = 0x1a2b3c4d;
  // libpcap's limit. A longer block it refuses when it has seen the header.
  static constexpr uint32_t kLongestBlock = 16 << 20;

  ssize_t Read(char* to, size_t size) {
    if (used_ == ready_.size()) {
      ready_.clear();
      used_ = 0;
      Refill();
      if (ready_.empty() && error_ != 0) {
        errno = error_;
        return -1;
      }
    }
    const size_t n = std::min(size, ready_.size() - used_);
    std::memcpy(to, ready_.data() + used_, n);
    used_ += n;
    return static_cast<ssize_t>(n);
  }

  // Puts what comes next into ready_; nothing at the end.
  void Refill() {
    constexpr size_t kPcapHeader = 24, kPcapSnapLength = 16;
    if (ended_at_other_link_type_) return;
    switch (form_) {
      case Form::kUnknown:
        form_ = Form::kRaw;
        if (Append(4) && Get32(0) == kSection) {
          form_ = Form::kBlocks;
          is_pcapng_ = true;
          RefillWithBlock();
        } else if (Append(kPcapHeader - 4)) {
          Put32(kPcapSnapLength, 0);
        }
        break;
      case Form::kBlocks: RefillWithBlock(); break;
      case Form::kRaw: Append(1 << 16); break;
    }
  }

  // Reads one block, of which ready_ may have the first bytes.
  void RefillWithBlock() {
    if (!AppendBlock()) {
      if (ready_.empty() && !has_interface_ && error_ == 0) return AddInterface();
      form_ = Form::kRaw;
      return;
    }
    const size_t size = ready_.size();
    switch (Get32(0)) {
      case kSection: is_first_interface_ = true; break;
      case kInterface: {
        if (size < 20) break;
        if (has_interface_ && Get16(8) != DLT_EN10MB) {
          ready_.clear();
          ended_at_other_link_type_ = true;
          break;
        }
        if (is_first_interface_) {
          const uint32_t snap_length = Get32(12);
          snap_length_ = snap_length == 0 ? kLongestCaptured : snap_length;
        }
        is_first_interface_ = false;
        has_interface_ = true;
        Put32(12, 0);
        break;
      }
      case kSimplePacket: {
        if (size < 16 || Get32(size - 4) != size) break;
        const uint32_t length = std::min(Get32(8), snap_length_);
        // Interface, time stamp and length come before the original length.
        ready_.insert(ready_.begin() + 8, 16, 0);
        Put32(0, kEnhancedPacket);
        Put32(4, static_cast<uint32_t>(ready_.size()));
        Put32(20, length);
        Put32(ready_.size() - 4, static_cast<uint32_t>(ready_.size()));
        break;
      }
      default: break;
    }
  }

  // False if it is cut off, or if its length makes no sense: then ready_ has the part that was
  // read.
  bool AppendBlock() {
    if (!Append(8 - ready_.size())) return false;
    if (Get32(0) == kSection) {
      if (!Append(4)) return false;
      is_swapped_ = false;
      is_swapped_ = Get32(8) != kByteOrder;
    }
    const uint32_t length = Get32(4);
    if (length < 12 || length > kLongestBlock) return false;
    return Append(length - ready_.size());
  }

  void AddInterface() {
    has_interface_ = true;
    ready_.assign(20, 0);
    Put32(0, kInterface);
    Put32(4, 20);
    ready_[is_swapped_ ? 9 : 8] = DLT_EN10MB;
    Put32(16, 20);
  }

  // Appends `size` bytes of the file to ready_, or as many as there are: then, false.
  bool Append(size_t size) {
    const size_t before = ready_.size();
    ready_.resize(before + size);
    const size_t n = std::fread(ready_.data() + before, 1, size, file_.get());
    if (std::ferror(file_.get()) && error_ == 0) error_ = errno;
    ready_.resize(before + n);
    return n == size;
  }

  // Numbers in ready_, in the section's byte order.
  uint16_t Get16(size_t at) const {
    uint16_t v;
    std::memcpy(&v, ready_.data() + at, sizeof(v));
    return is_swapped_ ? __builtin_bswap16(v) : v;
  }
  uint32_t Get32(size_t at) const {
    uint32_t v;
    std::memcpy(&v, ready_.data() + at, sizeof(v));
    return is_swapped_ ? __builtin_bswap32(v) : v;
  }
  void Put32(size_t at, uint32_t v) {
    if (is_swapped_) v = __builtin_bswap32(v);
    std::memcpy(ready_.data() + at, &v, sizeof(v));
  }

  File file_;
  int error_ = 0;  // of reading it
  Form form_ = Form::kUnknown;
  std::vector<uint8_t> ready_;
  size_t used_ = 0;  // of ready_

  bool is_pcapng_ = false;
  bool is_swapped_ = false;     // this section, to the host's byte order
  bool has_interface_ = false;  // any section had one
  bool is_first_interface_ = true;
  uint32_t snap_length_ = kLongestCaptured;  // of interface 0 of this section
  bool ended_at_other_link_type_ = false;
};

absl::Status NotEthernet(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": a capture of ", what, "; allowed is Ethernet"));
}

std::string LinkTypeName(int type) {
  const char* name = pcap_datalink_val_to_name(type);
  return name != nullptr ? name : absl::StrCat("link type ", type);
}

// The two parts of libpcap's time, which may be anything, as what CapturedPacket promises.
uint64_t TimeNs(const timeval& time, bool is_pcapng) {
  // In a pcap file, the seconds have 32 bits without a sign; libpcap says they have one.
  const int64_t seconds = is_pcapng ? time.tv_sec : static_cast<uint32_t>(time.tv_sec);
  if (seconds < 0) return 0;
  if (seconds > UINT32_MAX) return kLatestTime;
  const int64_t ns = std::clamp<int64_t>(time.tv_usec, 0, kNsPerSecond - 1);
  return static_cast<uint64_t>(seconds) * kNsPerSecond + static_cast<uint64_t>(ns);
}

}  // namespace

// --- CaptureReader -------------------------------------------------------------------------------

struct CaptureReader::State {
  std::string path;
  struct stat identity = {};
  std::unique_ptr<Source> source;
  Pcap pcap;  // reads the source: goes first
  uint64_t packets = 0;
  uint64_t time_ns = 0;  // of the last one
  absl::StatusOr<bool> answer = true;
};

CaptureReader::CaptureReader(std::unique_ptr<State> state) : state_(std::move(state)) {}
CaptureReader::CaptureReader(CaptureReader&&) noexcept = default;
CaptureReader& CaptureReader::operator=(CaptureReader&&) noexcept = default;
CaptureReader::~CaptureReader() = default;

absl::StatusOr<CaptureReader> CaptureReader::Open(const std::string& path) {
  auto state = std::make_unique<State>();
  state->path = path == "-" ? "<stdin>" : path;
  const int fd = path == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                             : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrorOf(state->path, errno);
  File file(fdopen(fd, "rb"));
  if (file == nullptr || fstat(fd, &state->identity) != 0) {
    const int error = errno;
    if (file == nullptr) close(fd);
    return ErrorOf(state->path, error);
  }
  state->source = std::make_unique<Source>(std::move(file));
  File stream(
      fopencookie(state->source.get(), "rb",
                  {.read = Source::Read, .write = nullptr, .seek = nullptr, .close = nullptr}));
  if (stream == nullptr) return ErrorOf(state->path, errno);
  char error[PCAP_ERRBUF_SIZE] = "";
  state->pcap.reset(
      pcap_fopen_offline_with_tstamp_precision(stream.get(), PCAP_TSTAMP_PRECISION_NANO, error));
  if (state->pcap == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(state->path, ": not a capture (pcap or pcapng): ", error));
  }
  (void)stream.release();  // libpcap's now
  if (const int type = pcap_datalink(state->pcap.get()); type != DLT_EN10MB) {
    return NotEthernet(state->path, LinkTypeName(type));
  }
  return CaptureReader(std::move(state));
}

absl::StatusOr<bool> CaptureReader::Next(CapturedPacket* packet) {
  State& state = *state_;
  if (!state.answer.ok() || !*state.answer) return state.answer;
  pcap_pkthdr* header;
  const u_char* bytes;
  switch (pcap_next_ex(state.pcap.get(), &header, &bytes)) {
    case 1:
      ++state.packets;
      state.time_ns = std::max(state.time_ns, TimeNs(header->ts, state.source->is_pcapng()));
      *packet = {.bytes = {bytes, header->caplen},
                 .original_length = std::max(header->caplen, header->len),
                 .time_ns = state.time_ns};
      break;
    case PCAP_ERROR_BREAK:
      state.answer = false;
      if (state.source->ended_at_other_link_type()) {
        state.answer = NotEthernet(state.path, "several link types");
      }
      break;
    default:
      state.answer =
          absl::DataLossError(absl::StrCat(state.path, ": cut off or damaged after packet ",
                                           state.packets, ": ", pcap_geterr(state.pcap.get())));
  }
  return state.answer;
}

// --- CaptureWriter -------------------------------------------------------------------------------

struct CaptureWriter::State {
  std::string path;
  Pcap pcap;  // not of a file: says what the header has
  File file;  // a pcap_dumper_t is this by another name
  absl::Status status;

  pcap_dumper_t* dumper() { return reinterpret_cast<pcap_dumper_t*>(file.get()); }
};

CaptureWriter::CaptureWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
CaptureWriter::CaptureWriter(CaptureWriter&&) noexcept = default;
CaptureWriter& CaptureWriter::operator=(CaptureWriter&&) noexcept = default;
CaptureWriter::~CaptureWriter() = default;

absl::StatusOr<CaptureWriter> CaptureWriter::Open(const std::string& path,
                                                  const CaptureReader* source) {
  auto state = std::make_unique<State>();
  state->path = path;
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return ErrorOf(path, errno);
  state->file.reset(fdopen(fd, "wb"));
  struct stat identity;
  if (state->file == nullptr || fstat(fd, &identity) != 0) {
    const int error = errno;
    if (state->file == nullptr) close(fd);
    return ErrorOf(path, error);
  }
  if (S_ISREG(identity.st_mode)) {
    if (source != nullptr && source->state_->identity.st_dev == identity.st_dev &&
        source->state_->identity.st_ino == identity.st_ino) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the capture that is read, too; write to another file"));
    }
    if (ftruncate(fd, 0) != 0) return ErrorOf(path, errno);
  }
  state->pcap.reset(pcap_open_dead_with_tstamp_precision(DLT_EN10MB, kLongestCaptured,
                                                         PCAP_TSTAMP_PRECISION_NANO));
  if (state->pcap == nullptr) return ErrorOf(path, ENOMEM);
  // The header goes to the buffer.
  if (pcap_dump_fopen(state->pcap.get(), state->file.get()) == nullptr) {
    (void)state->file.release();  // libpcap has closed it
    return absl::InternalError(absl::StrCat(path, ": ", pcap_geterr(state->pcap.get())));
  }
  return CaptureWriter(std::move(state));
}

absl::Status CaptureWriter::Write(const CapturedPacket& packet) {
  State& state = *state_;
  if (!state.status.ok()) return state.status;
  if (state.file == nullptr) return absl::FailedPreconditionError("written to after Close");
  if (packet.bytes.size() > kLongestCaptured || packet.bytes.size() > packet.original_length ||
      packet.time_ns > kLatestTime) {
    return absl::InvalidArgumentError(absl::StrCat(
        state.path, ": a capture has no place for a packet of ", packet.bytes.size(),
        " bytes, originally ", packet.original_length, ", at ", packet.time_ns, " ns"));
  }
  const pcap_pkthdr header = {
      .ts = {.tv_sec = static_cast<time_t>(packet.time_ns / kNsPerSecond),
             .tv_usec = static_cast<suseconds_t>(packet.time_ns % kNsPerSecond)},
      .caplen = static_cast<bpf_u_int32>(packet.bytes.size()),
      .len = packet.original_length};
  errno = 0;
  pcap_dump(reinterpret_cast<u_char*>(state.dumper()), &header, packet.bytes.data());
  if (std::ferror(state.file.get())) state.status = ErrorOf(state.path, errno);
  return state.status;
}

absl::Status CaptureWriter::Close() {
  State& state = *state_;
  if (state.file == nullptr) return state.status;
  // Not pcap_dump_close, which does just this but keeps quiet about errors.
  if (std::fclose(state.file.release()) != 0 && state.status.ok()) {
    state.status = ErrorOf(state.path, errno);
  }
  return state.status;
}

}  // namespace guideway
