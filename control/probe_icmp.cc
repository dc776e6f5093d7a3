// Probes by ICMP echo (RFC 792, RFC 4443), all of a family through one raw socket.
#include <netinet/icmp6.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/icmp.hpp>
#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "control/probe.h"
#include "maglev/headers.h"

// For ICMP_FILTER; after glibc's headers, with which it gets along only in this order.
#include <linux/icmp.h>

namespace guideway {
namespace {

namespace asio = boost::asio;
using asio::ip::icmp;
using boost::system::error_code;

// Replies read in one go, before the loop gets to other things.
constexpr int kMaxReadsAtOnce = 256;

// Room for the replies that come while the loop is at something else.
constexpr int kReceiveBuffer = 4 << 20;

// An echo request or reply of ours, of both families.
struct EchoMessage {
  uint8_t type;
  uint8_t code;
  uint16_t checksum;
  uint16_t id;        // the socket's
  uint16_t sequence;  // the probe's
  uint64_t nonce;     // the probe's: a sequence comes again
};
static_assert(sizeof(EchoMessage) == 16);

class EchoProbe;

}  // namespace

// Sends requests and gives replies to the probes that asked. It waits for replies while somebody
// holds it.
class EchoSocket : public std::enable_shared_from_this<EchoSocket> {
 public:
  explicit EchoSocket(asio::io_context& io) : socket_(io) {}

  // Asks for `probe`, until Forget.
  error_code Send(EchoProbe* probe, const asio::ip::address& address, uint16_t* sequence);
  void Forget(uint16_t sequence) { waiting_.erase(sequence); }
  bool AnswerWaits() { return IsReady(socket_.native_handle(), POLLIN); }

 private:
  struct Waiting {
    EchoProbe* probe;
    asio::ip::address address;
    uint64_t nonce;
  };

  error_code Open(bool is_v4);
  void Wait();
  void Read();
  void Received(absl::string_view packet, const asio::ip::address& source);

  icmp::socket socket_;
  const uint16_t id_ = static_cast<uint16_t>(arc4random());
  uint16_t next_sequence_ = 0;
  absl::flat_hash_map<uint16_t, Waiting> waiting_;  // by sequence
};

namespace {

class EchoProbe final : public Probe {
 public:
  EchoProbe(Order order, std::shared_ptr<EchoSocket> socket)
      : Probe(std::move(order)),
        address_(ToAsio(order.question.address)),
        socket_(std::move(socket)) {}
  ~EchoProbe() override { Stop(); }

  void Replied() { Succeed(); }

 private:
  error_code Ask() override {
    const error_code e = socket_->Send(this, address_, &sequence_);
    asked_ = !e;
    return e;
  }
  void Stop() override {
    if (std::exchange(asked_, false)) socket_->Forget(sequence_);
  }
  bool AnswerWaits() override { return socket_->AnswerWaits(); }

  const asio::ip::address address_;
  const std::shared_ptr<EchoSocket> socket_;
  uint16_t sequence_ = 0;
  bool asked_ = false;
};

}  // namespace

error_code EchoSocket::Send(EchoProbe* probe, const asio::ip::address& address,
                            uint16_t* sequence) {
  if (!socket_.is_open()) {
    if (const error_code e = Open(address.is_v4())) return e;
  }
  if (waiting_.size() > UINT16_MAX) return asio::error::no_buffer_space;
  while (waiting_.contains(next_sequence_)) ++next_sequence_;
  *sequence = next_sequence_++;
  EchoMessage request = {};
  request.type = address.is_v4() ? uint8_t{ICMP_ECHO} : uint8_t{ICMP6_ECHO_REQUEST};
  request.id = id_;
  request.sequence = *sequence;
  arc4random_buf(&request.nonce, sizeof(request.nonce));
  // Over IPv6 the kernel fills it in, and checks that of replies.
  if (address.is_v4()) request.checksum = InternetChecksum(&request, sizeof(request));
  error_code e;
  socket_.send_to(asio::buffer(&request, sizeof(request)), icmp::endpoint(address, 0), 0, e);
  if (!e) waiting_[*sequence] = {probe, address, request.nonce};
  return e;
}

error_code EchoSocket::Open(bool is_v4) {
  error_code e;
  socket_.open(is_v4 ? icmp::v4() : icmp::v6(), e);
  if (e) return e;
  const int descriptor = socket_.native_handle();
  int failed;
  if (is_v4) {
    const icmp_filter only_replies = {.data = ~(1u << ICMP_ECHOREPLY)};
    failed = setsockopt(descriptor, SOL_RAW, ICMP_FILTER, &only_replies, sizeof(only_replies));
  } else {
    icmp6_filter only_replies;
    ICMP6_FILTER_SETBLOCKALL(&only_replies);
    ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &only_replies);
    failed =
        setsockopt(descriptor, IPPROTO_ICMPV6, ICMP6_FILTER, &only_replies, sizeof(only_replies));
  }
  if (failed != 0) e.assign(errno, boost::system::system_category());
  if (!e) socket_.non_blocking(true, e);
  if (e) {
    error_code ignored;
    socket_.close(ignored);
    return e;
  }
  // Beyond net.core.rmem_max only with CAP_NET_ADMIN; less will do, too.
  if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof(int)) != 0) {
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof(int));
  }
  Wait();
  return e;
}

void EchoSocket::Wait() {
  socket_.async_wait(icmp::socket::wait_read, [weak = weak_from_this()](error_code e) {
    if (const auto self = weak.lock(); self != nullptr && !e) self->Read();
  });
}

void EchoSocket::Read() {
  char packet[128];  // the longest IPv4 header and an EchoMessage; what is longer is not ours
  for (int i = 0; i < kMaxReadsAtOnce; ++i) {
    error_code e;
    icmp::endpoint source;
    const size_t size = socket_.receive_from(asio::buffer(packet), source, 0, e);
    if (e) break;  // nothing is left, or an error that was told now
    Received({packet, size}, source.address());
  }
  Wait();
}

void EchoSocket::Received(absl::string_view packet, const asio::ip::address& source) {
  // A raw socket of IPv4 sees the IP header, and packets whose ICMP checksum nobody has looked at.
  if (source.is_v4()) {
    const size_t header = packet.empty() ? 0 : (packet[0] & 0xf) * size_t{4};
    if (packet.size() < header) return;
    packet.remove_prefix(header);
    if (InternetChecksum(packet.data(), packet.size()) != 0) return;
  }
  if (packet.size() != sizeof(EchoMessage)) return;
  EchoMessage reply;
  std::memcpy(&reply, packet.data(), sizeof(reply));
  if (reply.type != (source.is_v4() ? uint8_t{ICMP_ECHOREPLY} : uint8_t{ICMP6_ECHO_REPLY}) ||
      reply.code != 0 || reply.id != id_) {
    return;
  }
  const auto found = waiting_.find(reply.sequence);
  if (found == waiting_.end()) return;
  const Waiting& waiting = found->second;
  if (waiting.nonce != reply.nonce || waiting.address != source) return;
  waiting.probe->Replied();
}

std::shared_ptr<EchoSocket> NewEchoSocket(asio::io_context& io) {
  return std::make_shared<EchoSocket>(io);
}

std::shared_ptr<Probe> NewIcmpProbe(Probe::Order order, std::shared_ptr<EchoSocket> socket) {
  return std::make_shared<EchoProbe>(std::move(order), std::move(socket));
}

}  // namespace guideway
