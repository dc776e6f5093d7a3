#include "control/api_server.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "control/api/api.pb.h"
#include "control/controller.h"
#include "control/event_loop.h"
#include "control/inspect.h"
#include "control/metrics.h"
#include "glog/logging.h"

namespace guideway {
namespace {

using Method = HttpRoute::Method;

// Makes the directory a socket and its lock file are to be in, and sees that nothing else lies in
// the socket's place.
absl::Status PreparePath(const std::string& socket_path) {
  if (socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the control socket's path ", socket_path, " has ", socket_path.size(),
                     " bytes; a Unix socket's can have ", sizeof(sockaddr_un::sun_path) - 1));
  }
  const std::filesystem::path parent = std::filesystem::path(socket_path).parent_path();
  std::error_code e;
  if (!parent.empty()) std::filesystem::create_directories(parent, e);
  if (e) {
    return absl::PermissionDeniedError(absl::StrCat(
        "cannot make the directory ", parent.string(), " of the control socket: ", e.message(),
        "; make it, or set control.socket to another path"));
  }
  struct stat found;
  if (lstat(socket_path.c_str(), &found) == 0 && !S_ISSOCK(found.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(
        socket_path, " is there and is not a socket: remove it, or set control.socket"));
  }
  return absl::OkStatus();
}

// A file descriptor that is closed unless it is given away.
class Socket {
 public:
  explicit Socket(int family) : fd_(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

  // False with errno.
  template <typename Address>
  bool Bind(const Address& address) {
    return bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  bool Bind(const Endpoint& endpoint) {
    if (endpoint.address.is_v4()) {
      sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(endpoint.port)};
      std::memcpy(&address.sin_addr, endpoint.address.bytes(), sizeof(address.sin_addr));
      return Bind(address);
    }
    sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(endpoint.port)};
    std::memcpy(&address.sin6_addr, endpoint.address.bytes(), sizeof(address.sin6_addr));
    return Bind(address);
  }

 private:
  int fd_;
};

int HttpStatus(const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) return 400;
  if (absl::IsNotFound(status)) return 404;
  if (absl::IsFailedPrecondition(status)) return 409;
  if (absl::IsDeadlineExceeded(status)) return 503;
  return 500;
}

// After a disk or a file server did not answer in time: how long until it is worth another try.
constexpr int kRetryAfterSeconds = 10;

std::string Who(const HttpRequest& request) {
  return request.peer ? NameOf(*request.peer) : "unknown";
}

// Names are ASCII; so nothing else comes back in an answer or reaches the log.
bool ReadJson(const std::string& body, google::protobuf::Message* message) {
  return std::all_of(body.begin(), body.end(), absl::ascii_isascii) &&
         google::protobuf::util::JsonStringToMessage(body, message).ok();
}

Controller::Done DoneAnswer(const HttpReply& reply) {
  return [reply](const absl::StatusOr<api::Done>& done) {
    if (done.ok()) return reply(JsonAnswer(*done));
    reply(ErrorAnswer(HttpStatus(done.status()), done.status().message()));
  };
}

// The parameter discard_overrides; false if it is not given.
absl::StatusOr<bool> DiscardsOverrides(const HttpRequest& request) {
  bool discards = false;
  const auto given = request.parameters.find("discard_overrides");
  if (given != request.parameters.end() && !absl::SimpleAtob(given->second, &discards)) {
    return absl::InvalidArgumentError("discard_overrides is true or false");
  }
  return discards;
}

// The parameter max_moved; 1 if it is not given.
absl::StatusOr<double> MaxMoved(const HttpRequest& request) {
  double share = 1;
  const auto given = request.parameters.find("max_moved");
  if (given != request.parameters.end() &&
      !(absl::SimpleAtod(given->second, &share) && share >= 0 && share <= 1)) {
    return absl::InvalidArgumentError("max_moved is not a share from 0 to 1");
  }
  return share;
}

// A revision's number as Rollback wants it.
std::optional<uint64_t> RollbackNumber(uint64_t number) {
  return number == 0 ? std::nullopt : std::optional(number);
}

// Of the server that is open to more than the socket's group.
HttpLimits ReadOnlyLimits() {
  HttpLimits limits;
  // Each may hold the text of a scrape, megabytes where there are ten thousand backends.
  limits.connections = 16;
  limits.large_body_bytes = limits.body_bytes = 0;
  return limits;
}

}  // namespace

absl::StatusOr<SocketLock> SocketLock::Take(const std::string& socket_path) {
  if (absl::Status s = PreparePath(socket_path); !s.ok()) return s;
  const std::string lock_path = absl::StrCat(socket_path, ".lock");
  SocketLock lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (lock.fd_ < 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot open ", lock_path, ": ", std::strerror(errno),
                     "; run as a user who may write there, or set control.socket to another path"));
  }
  if (flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
    char text[16] = {};
    int pid = 0;
    const bool known = pread(lock.fd_, text, sizeof(text) - 1, 0) > 0 &&
                       absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &pid);
    return absl::AlreadyExistsError(
        absl::StrCat("another guidewayd", known ? absl::StrCat(" (pid ", pid, ")") : "",
                     " is serving the control socket ", socket_path,
                     "; stop it first, or give this one a control.socket of its own"));
  }
  // For the message above; the lock itself is what counts.
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(lock.fd_, 0) != 0 ||
      pwrite(lock.fd_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    LOG(WARNING) << "cannot write the pid to " << lock_path << ": " << std::strerror(errno);
  }
  return lock;
}

SocketLock& SocketLock::operator=(SocketLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

SocketLock::~SocketLock() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<BoundEndpoint> BoundEndpoint::Bind(const Endpoint& endpoint) {
  const std::string host = endpoint.address.ToString();
  std::string name = endpoint.address.is_v4() ? absl::StrCat(host, ":", endpoint.port)
                                              : absl::StrCat("[", host, "]:", endpoint.port);
  Socket bound(endpoint.address.is_v4() ? AF_INET : AF_INET6);
  const int on = 1;
  // A restart need not wait for connections of the process before.
  if (bound.fd() < 0 || setsockopt(bound.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      !bound.Bind(endpoint)) {
    return absl::UnavailableError(std::strerror(errno));
  }
  return BoundEndpoint(bound.Release(), std::move(name));
}

BoundEndpoint::BoundEndpoint(BoundEndpoint&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), name_(std::move(other.name_)) {}

BoundEndpoint& BoundEndpoint::operator=(BoundEndpoint&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(name_, other.name_);
  return *this;
}

BoundEndpoint::~BoundEndpoint() {
  if (fd_ >= 0) close(fd_);
}

namespace {

// An answer whose text takes too long for the control thread, 150 ms for ten thousand backends.
// This thread copies what it tells of, and the helper thread makes the text. One text is made at a
// time; who asks meanwhile waits for the next, which tells of a later moment, and shares it. So
// those who ask, however many, cost this thread one copy a text.
class SlowAnswer : public std::enable_shared_from_this<SlowAnswer> {
 public:
  using Text = std::function<HttpAnswer()>;

  // `copy` is called on this thread; what it returns is called, and ends, on the helper's.
  SlowAnswer(EventLoop* helper, std::function<Text()> copy)
      : helper_(helper), copy_(std::move(copy)) {}

  void Ask(HttpReply reply) {
    waiting_.push_back(std::move(reply));
    if (!making_) Make();
  }

 private:
  struct Work {
    Text text;
    HttpAnswer answer;
    std::vector<HttpReply> replies;
  };

  void Make() {
    making_ = true;
    auto work = std::make_shared<Work>(Work{copy_(), {}, std::exchange(waiting_, {})});
    helper_->RunOnHelper(
        [work] {
          work->answer = work->text();
          work->text = nullptr;
        },
        [weak = weak_from_this(), work] {
          const auto self = weak.lock();
          if (self == nullptr) return;
          self->making_ = false;
          for (const HttpReply& reply : work->replies) reply(work->answer);
          if (!self->waiting_.empty()) self->Make();
        });
  }

  EventLoop* const helper_;
  const std::function<Text()> copy_;
  std::vector<HttpReply> waiting_;
  bool making_ = false;
};

}  // namespace

class ApiServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(boost::asio::io_context& io, Controller* controller)
      : io_(io),
        controller_(controller),
        texts_(NewEventLoop(io)),
        inspections_(NewEventLoop(io)),
        metrics_(std::make_shared<SlowAnswer>(
            texts_.get(),
            [controller]() -> SlowAnswer::Text {
              return [facts = controller->GetMetrics()] {
                return HttpAnswer{200, std::make_shared<const std::string>(MetricsText(facts)),
                                  kMetricsContentType};
              };
            })),
        status_(SlowJson([controller] { return controller->GetStatus(); })),
        services_(SlowJson([controller] { return controller->GetServices(); })),
        backends_(SlowJson([controller] { return controller->GetBackends(); })),
        history_(SlowJson([controller] { return controller->GetHistory(); })) {}

  absl::Status ListenOnSocket(const std::string& path, HttpLimits limits, ControlAccess access);
  absl::Status ListenReadOnly(int bound, const std::string& name, HttpLimits limits);
  void Stop();

 private:
  std::vector<HttpRoute> SocketRoutes();
  std::vector<HttpRoute> ReadOnlyRoutes();

  void Flows(const HttpRequest& request, const HttpReply& reply);
  void FlowEntries(const HttpRequest& request, const HttpReply& reply);
  template <typename Message>
  void OfPacket(absl::StatusOr<Message> (*look)(const Inspection&, const std::string&),
                const HttpRequest& request, HttpReply reply);
  void Explain(const HttpRequest& request, const HttpReply& reply);
  // What turns a result of the controller into the answer, on the helper thread for texts: a plan
  // of ten thousand backends has megabytes. `refusal` is the HTTP status of an error.
  template <typename Message>
  auto JsonOr(int (*refusal)(const absl::Status&), const HttpReply& reply);
  // Has `answer` made on the helper thread for inspections.
  void Inspect(std::function<HttpAnswer()> answer, HttpReply reply);
  void History(const HttpRequest& request, const HttpReply& reply);
  void Apply(HttpRequest request, const HttpReply& reply);
  void Plan(HttpRequest request, const HttpReply& reply);
  void Rollback(const HttpRequest& request, const HttpReply& reply);
  void SetWeight(const HttpRequest& request, const HttpReply& reply);
  void OnBackend(void (Controller::*change)(Controller::BackendRequest, Controller::Done),
                 const HttpRequest& request, const HttpReply& reply);

  // A handler for what is answered at once.
  template <typename Answer>
  static auto AtOnce(const Answer& answer) {
    return [answer](const HttpRequest&, const HttpReply& reply) { reply(answer()); };
  }
  // And for what is not.
  static auto Later(const std::shared_ptr<SlowAnswer>& answer) {
    return [weak = std::weak_ptr(answer)](const HttpRequest&, HttpReply reply) {
      if (const auto there = weak.lock()) there->Ask(std::move(reply));
    };
  }
  // The JSON of the message that `get` returns.
  template <typename Get>
  std::shared_ptr<SlowAnswer> SlowJson(Get get) {
    return std::make_shared<SlowAnswer>(texts_.get(), [get]() -> SlowAnswer::Text {
      return [message = get()] { return JsonAnswer(message); };
    });
  }

  boost::asio::io_context& io_;
  Controller* const controller_;
  std::string path_;
  // Its helper thread makes texts: a Compile must not wait for them.
  std::unique_ptr<EventLoop> texts_;
  // And this one's reads flow tables, so that neither waits for the other.
  std::unique_ptr<EventLoop> inspections_;
  std::shared_ptr<SlowAnswer> metrics_, status_, services_, backends_, history_;
  std::unique_ptr<HttpServer> socket_, read_only_;
};

std::vector<HttpRoute> ApiServer::Impl::SocketRoutes() {
  return {
      {"/v1/status", Method::kGet, Later(status_)},
      {"/v1/services", Method::kGet, Later(services_)},
      {"/v1/backends", Method::kGet, Later(backends_)},
      {"/v1/flows",
       Method::kGet,
       [this](const HttpRequest& request, const HttpReply& reply) { Flows(request, reply); },
       false,
       {"service", "backend", "state", "older_than", "younger_than"}},
      {"/v1/flows/entries",
       Method::kGet,
       [this](const HttpRequest& request, const HttpReply& reply) { FlowEntries(request, reply); },
       false,
       {"service", "backend", "state", "older_than", "younger_than"}},
      {"/v1/flows/lookup",
       Method::kGet,
       [this](const HttpRequest& request, const HttpReply& reply) {
         OfPacket(LookUpFlow, request, reply);
       },
       false,
       {"packet"}},
      {"/v1/explain",
       Method::kGet,
       [this](const HttpRequest& request, const HttpReply& reply) {
         this->Explain(request, reply);
       },
       false,
       {"packet"}},
      {"/v1/apply",
       Method::kPost,
       [this](HttpRequest request, const HttpReply& reply) { Apply(std::move(request), reply); },
       true,
       {"discard_overrides", "max_moved"}},
      {"/v1/history",
       Method::kGet,
       [this](const HttpRequest& request, const HttpReply& reply) { History(request, reply); },
       false,
       {"revision"}},
      {"/v1/rollback",
       Method::kPost,
       [this](const HttpRequest& request, const HttpReply& reply) { Rollback(request, reply); },
       false,
       {"max_moved"}},
      {"/v1/weight", Method::kPost,
       [this](const HttpRequest& request, const HttpReply& reply) { SetWeight(request, reply); }},
      {"/v1/plan",
       Method::kPost,
       [this](HttpRequest request, const HttpReply& reply) { Plan(std::move(request), reply); },
       true,
       {"discard_overrides", "revision"}},
      {"/v1/drain", Method::kPost,
       [this](const HttpRequest& request, const HttpReply& reply) {
         OnBackend(&Controller::Drain, request, reply);
       }},
      {"/v1/undrain", Method::kPost,
       [this](const HttpRequest& request, const HttpReply& reply) {
         OnBackend(&Controller::Undrain, request, reply);
       }},
      {"/metrics", Method::kGet, Later(metrics_)},
  };
}

std::vector<HttpRoute> ApiServer::Impl::ReadOnlyRoutes() {
  return {
      {"/metrics", Method::kGet, Later(metrics_)},
      {"/status", Method::kGet, Later(status_)},
      {"/healthz", Method::kGet, AtOnce([this] {
         return controller_->stopping() ? TextAnswer(503, "stopping\n") : TextAnswer(200, "ok\n");
       })},
  };
}

void ApiServer::Impl::Inspect(std::function<HttpAnswer()> answer, HttpReply reply) {
  auto made = std::make_shared<HttpAnswer>();
  inspections_->RunOnHelper([made, answer = std::move(answer)] { *made = answer(); },
                            [made, reply = std::move(reply)] { reply(std::move(*made)); });
}

namespace {

absl::StatusOr<FlowFilter> FilterOf(const HttpRequest& request, const Inspection& inspection) {
  const auto parameter = [&](const char* name) {
    const auto found = request.parameters.find(name);
    return found == request.parameters.end() ? "" : found->second;
  };
  return FlowFilter::Make(*inspection.snapshot, {.service = parameter("service"),
                                                 .backend = parameter("backend"),
                                                 .state = parameter("state"),
                                                 .older_than = parameter("older_than"),
                                                 .younger_than = parameter("younger_than")});
}

HttpAnswer NoPacket() {
  return ErrorAnswer(400,
                     "the query has no packet: ?packet=tcp+203.0.113.7:40000+%3E+198.51.100.10:80");
}

}  // namespace

void ApiServer::Impl::Flows(const HttpRequest& request, const HttpReply& reply) {
  Inspection inspection = controller_->Inspect();
  const absl::StatusOr<FlowFilter> filter = FilterOf(request, inspection);
  if (!filter.ok()) {
    return reply(ErrorAnswer(HttpStatus(filter.status()), filter.status().message()));
  }
  Inspect([inspection = std::move(inspection),
           filter = *filter] { return JsonAnswer(CountFlows(inspection, filter)); },
          reply);
}

// A piece is made when the client has taken the one before: a table is never in memory as text.
void ApiServer::Impl::FlowEntries(const HttpRequest& request, const HttpReply& reply) {
  Inspection inspection = controller_->Inspect();
  const absl::StatusOr<FlowFilter> filter = FilterOf(request, inspection);
  if (!filter.ok()) {
    return reply(ErrorAnswer(HttpStatus(filter.status()), filter.status().message()));
  }
  HttpAnswer answer = {200, nullptr, "application/x-ndjson"};
  answer.pieces = [weak = weak_from_this(), stream = std::make_shared<FlowStream>(
                                                std::move(inspection), *filter)](auto piece) {
    const auto self = weak.lock();
    if (self == nullptr) return;
    auto text = std::make_shared<std::string>();
    auto more = std::make_shared<bool>();
    self->inspections_->RunOnHelper([stream, text, more] { *more = stream->Next(text.get()); },
                                    [piece, text, more] { piece(*more ? text : nullptr); });
  };
  reply(std::move(answer));
}

// The tables are read on the thread for that; why a backend is not used the controller knows.
void ApiServer::Impl::Explain(const HttpRequest& request, const HttpReply& reply) {
  const auto packet = request.parameters.find("packet");
  if (packet == request.parameters.end()) return reply(NoPacket());
  auto found = std::make_shared<absl::StatusOr<Explanation>>(absl::UnknownError(""));
  inspections_->RunOnHelper(
      [found, inspection = controller_->Inspect(), text = packet->second] {
        *found = guideway::Explain(inspection, text);
      },
      [weak = weak_from_this(), found, reply] {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (!found->ok()) {
          return reply(ErrorAnswer(HttpStatus(found->status()), found->status().message()));
        }
        const Explanation& explanation = **found;
        reply(JsonAnswer(ToApi(
            explanation, explanation.home_step
                             ? self->controller_->WhyUnused(explanation.service, explanation.home)
                             : "")));
      });
}

template <typename Message>
void ApiServer::Impl::OfPacket(absl::StatusOr<Message> (*look)(const Inspection&,
                                                               const std::string&),
                               const HttpRequest& request, HttpReply reply) {
  const auto packet = request.parameters.find("packet");
  if (packet == request.parameters.end()) return reply(NoPacket());
  Inspect(
      [look, inspection = controller_->Inspect(), text = packet->second] {
        const absl::StatusOr<Message> message = look(inspection, text);
        if (message.ok()) return JsonAnswer(*message);
        return ErrorAnswer(HttpStatus(message.status()), message.status().message());
      },
      std::move(reply));
}

namespace {

// What a configuration that came in a body is called in what is said of it.
std::string FileOf(const HttpRequest& request) {
  return request.file.empty() ? "configuration" : request.file;
}

// Of a configuration that is refused.
int Unprocessable(const absl::Status& status) {
  return absl::IsDeadlineExceeded(status) ? HttpStatus(status) : 422;
}

// Of a rollback: what is wrong with a configuration that was kept is no fault of the call.
int RollbackRefusal(const absl::Status& status) {
  const int code = HttpStatus(status);
  return code == 500 || code == 400 ? 422 : code;
}

}  // namespace

template <typename Message>
auto ApiServer::Impl::JsonOr(int (*refusal)(const absl::Status&), const HttpReply& reply) {
  return [weak = weak_from_this(), refusal, reply](absl::StatusOr<Message> result) {
    const auto self = weak.lock();
    if (self == nullptr) return;
    if (!result.ok()) {
      HttpAnswer answer = ErrorAnswer(refusal(result.status()), result.status().message());
      if (answer.status == 503) answer.retry_after_seconds = kRetryAfterSeconds;
      return reply(std::move(answer));
    }
    auto message = std::make_shared<const Message>(*std::move(result));
    auto answer = std::make_shared<HttpAnswer>();
    self->texts_->RunOnHelper([message, answer] { *answer = JsonAnswer(*message); },
                              [answer, reply] { reply(std::move(*answer)); });
  };
}

void ApiServer::Impl::Plan(HttpRequest request, const HttpReply& reply) {
  if (const auto revision = request.parameters.find("revision");
      revision != request.parameters.end()) {
    uint64_t number = 0;
    if (!absl::SimpleAtoi(revision->second, &number)) {
      return reply(ErrorAnswer(400, absl::StrCat("\"", revision->second, "\" is no number")));
    }
    if (!request.body.empty() || request.parameters.count("discard_overrides") > 0) {
      return reply(
          ErrorAnswer(400, "with a revision there is neither a body nor another parameter"));
    }
    return controller_->PlanRollback(RollbackNumber(number),
                                     JsonOr<api::Plan>(RollbackRefusal, reply));
  }
  const absl::StatusOr<bool> discards = DiscardsOverrides(request);
  if (!discards.ok()) return reply(ErrorAnswer(400, discards.status().message()));
  controller_->Plan({.name = FileOf(request),
                     .text = std::move(request.body),
                     .discard_overrides = *discards,
                     .text_room = std::move(request.body_room)},
                    JsonOr<api::Plan>(Unprocessable, reply));
}

void ApiServer::Impl::History(const HttpRequest& request, const HttpReply& reply) {
  const auto revision = request.parameters.find("revision");
  if (revision == request.parameters.end()) return history_->Ask(reply);
  uint64_t number = 0;
  if (!absl::SimpleAtoi(revision->second, &number)) {
    return reply(ErrorAnswer(400, absl::StrCat("\"", revision->second, "\" is no number")));
  }
  controller_->GetRevision(number, JsonOr<api::RevisionText>(HttpStatus, reply));
}

void ApiServer::Impl::Apply(HttpRequest request, const HttpReply& reply) {
  const absl::StatusOr<bool> discards = DiscardsOverrides(request);
  if (!discards.ok()) return reply(ErrorAnswer(400, discards.status().message()));
  const absl::StatusOr<double> max_moved = MaxMoved(request);
  if (!max_moved.ok()) return reply(ErrorAnswer(400, max_moved.status().message()));
  Controller::ApplyRequest apply = {.name = FileOf(request),
                                    .text = std::move(request.body),
                                    .who = Who(request),
                                    .discard_overrides = *discards,
                                    .max_moved = *max_moved,
                                    .text_room = std::move(request.body_room)};
  controller_->Apply(std::move(apply), JsonOr<api::ApplyResult>(Unprocessable, reply));
}

void ApiServer::Impl::Rollback(const HttpRequest& request, const HttpReply& reply) {
  api::RevisionRef ref;
  if (!request.body.empty() && !ReadJson(request.body, &ref)) {
    return reply(ErrorAnswer(400, "the body is not {\"revision\": \"3\"}"));
  }
  const absl::StatusOr<double> max_moved = MaxMoved(request);
  if (!max_moved.ok()) return reply(ErrorAnswer(400, max_moved.status().message()));
  controller_->Rollback(RollbackNumber(ref.revision()), Who(request),
                        JsonOr<api::ApplyResult>(RollbackRefusal, reply), *max_moved);
}

void ApiServer::Impl::SetWeight(const HttpRequest& request, const HttpReply& reply) {
  api::BackendWeight body;
  if (!ReadJson(request.body, &body) || body.service().empty() || body.backend().empty() ||
      body.weight() > kMaxWeight) {
    return reply(ErrorAnswer(
        400,
        absl::StrCat("the body is not {\"service\": \"…\", \"backend\": \"…\", \"weight\": N}, "
                     "N from 0 to ",
                     kMaxWeight, "; without a weight the file's is in force again")));
  }
  controller_->SetWeight({body.service(), body.backend(), Who(request)},
                         body.has_weight() ? std::optional(body.weight()) : std::nullopt,
                         DoneAnswer(reply));
}

void ApiServer::Impl::OnBackend(void (Controller::*change)(Controller::BackendRequest,
                                                           Controller::Done),
                                const HttpRequest& request, const HttpReply& reply) {
  api::BackendRef ref;
  if (!ReadJson(request.body, &ref) || ref.service().empty() || ref.backend().empty()) {
    return reply(ErrorAnswer(400, "the body is not {\"service\": \"…\", \"backend\": \"…\"}"));
  }
  (controller_->*change)({ref.service(), ref.backend(), Who(request)}, DoneAnswer(reply));
}

absl::Status ApiServer::Impl::ListenOnSocket(const std::string& path, HttpLimits limits,
                                             ControlAccess access) {
  if (absl::Status s = PreparePath(path); !s.ok()) return s;
  unlink(path.c_str());  // left by a process that is gone
  sockaddr_un address = {.sun_family = AF_UNIX};
  std::memcpy(address.sun_path, path.data(), path.size());  // PreparePath has looked at its size
  Socket listening(AF_UNIX);
  const auto refuse = [&](absl::string_view what_to_do) {
    return absl::PermissionDeniedError(absl::StrCat("cannot serve the control socket ", path, ": ",
                                                    std::strerror(errno), "; ", what_to_do));
  };
  if (listening.fd() < 0 || !listening.Bind(address)) return refuse("check its directory's mode");
  // Nobody can connect before listen().
  if (chown(path.c_str(), static_cast<uid_t>(-1), access.group().id) != 0) {
    return refuse(absl::StrCat("to give it to the group ", access.group().name,
                               " takes CAP_CHOWN, or that the daemon's user is in it"));
  }
  if (chmod(path.c_str(), access.mode()) != 0 || listen(listening.fd(), SOMAXCONN) != 0) {
    return refuse("check its directory's mode");
  }
  path_ = path;
  auto server =
      HttpServer::Serve(io_, listening.Release(), path, SocketRoutes(), limits, std::move(access));
  if (!server.ok()) return server.status();
  socket_ = *std::move(server);
  return absl::OkStatus();
}

absl::Status ApiServer::Impl::ListenReadOnly(int bound, const std::string& name,
                                             HttpLimits limits) {
  if (listen(bound, SOMAXCONN) != 0) {
    const int error = errno;
    close(bound);
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", name, ": ", std::strerror(error)));
  }
  auto server = HttpServer::Serve(io_, bound, name, ReadOnlyRoutes(), limits);
  if (!server.ok()) return server.status();
  read_only_ = *std::move(server);
  return absl::OkStatus();
}

void ApiServer::Impl::Stop() {
  if (!path_.empty()) unlink(path_.c_str());
  socket_.reset();
  read_only_.reset();
  metrics_ = status_ = services_ = backends_ = history_ = nullptr;
}

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Listen(boost::asio::io_context& io,
                                                             Controller* controller,
                                                             const std::string& socket_path,
                                                             HttpLimits limits,
                                                             ControlAccess access) {
  auto impl = std::make_shared<Impl>(io, controller);
  absl::Status status = impl->ListenOnSocket(socket_path, limits, std::move(access));
  if (!status.ok()) return status;
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(impl)));
}

absl::Status ApiServer::ListenReadOnly(BoundEndpoint endpoint) {
  return impl_->ListenReadOnly(std::exchange(endpoint.fd_, -1), endpoint.name_, ReadOnlyLimits());
}

ApiServer::ApiServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

ApiServer::~ApiServer() { impl_->Stop(); }

}  // namespace guideway
