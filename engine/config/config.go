// Package config reads weir.yaml: types, defaults, validation and environment overrides.
//
// Every problem is reported, not only the first, each with file, line and key and what would be right. Keys, ranges and
// defaults are declared once: the struct tags below (key, range, values) and Default; the decoder, the environment
// variables and the test that holds docs/configuration.md to the code all read them from there.
//
// Times are whole milliseconds and say so in their names (MS), shares are fractions between 0 and 1.
package config

// Config is one whole, valid configuration. It is never changed after Load: a reload makes a new one and Diff tells
// what differs.
type Config struct {
	Socket        Socket   `key:"socket"`
	Admin         Admin    `key:"admin"`
	Log           Log      `key:"log"`
	RefreshMS     int      `key:"refresh_ms" range:"10..60000"`
	StateFile     string   `key:"state_file"`
	Model         Model    `key:"model"`
	Learn         Learn    `key:"learn"`
	PrometheusURL URL      `key:"prometheus_url"`
	Database      Database `key:"database"`
	History       History  `key:"history"`
	Zone          string   `key:"zone"`
	Instance      string   `key:"instance"`
	Defaults      Settings `key:"defaults"`
	Pools         []Pool   `key:"pools"`

	// Where these were set, without a message; zero when they were not. No part of what Diff compares.
	SocketPathAt  Finding `key:"-"`
	SocketGroupAt Finding `key:"-"`
	HistoryURLAt  Finding `key:"-"`
	HistoryDirAt  Finding `key:"-"`
	ShareAt       Finding `key:"-"` // of learn
	PoolsAt       Finding `key:"-"`
}

// Socket is where NGINX reaches the engine.
type Socket struct {
	Path  string `key:"path"`
	Mode  Mode   `key:"mode"`
	Group string `key:"group"` // group to own the socket; empty = the engine's own
}

// Admin is the TCP listener for people and scrapers. Load has read TokenFile into Token.
type Admin struct {
	Listen    string `key:"listen"`
	Token     Secret `key:"token"`
	TokenFile string `key:"token_file"`
}

// Log says how much is logged.
type Log struct {
	Level Level `key:"level"`
}

// Model says what the learned policy computes with.
type Model struct {
	// File is a path, or ModelDefault for the one built into the program, or ModelNone for none: the analytic policy serves then.
	File string `key:"file"`
	// Library is the path of ONNX Runtime or of its folder, empty for the usual places, or LibraryBuiltin for none: the network is
	// evaluated by the program itself then.
	Library string `key:"library"`

	// Where the two were set, without a message; zero when they were not. No part of what Diff compares.
	FileAt, LibraryAt Finding `key:"-"`
}

// Learn says whether and how the model goes on learning while it serves.
type Learn struct {
	Enabled      Switch  `key:"enabled"`
	EveryMS      int     `key:"every_ms" range:"10000..604800000"`  // from one candidate to the next
	CPUShare     float64 `key:"cpu_share" range:"0.01..1"`          // of one core, at most
	MinDecisions int     `key:"min_decisions" range:"500..1000000"` // new ones that a candidate takes
	Decisions    int     `key:"decisions" range:"1000..1000000"`    // kept to learn from
	WatchMS      int     `key:"watch_ms" range:"10000..604800000"`  // a new model is compared with the control slice at least
	MaxMB        int     `key:"max_mb" range:"1..4096"`             // they may take

	Follow    Switch   `key:"follow"`    // whether models that other engines promote are made to serve here
	Federated Switch   `key:"federated"` // whether what is trained is averaged with that of other engines
	Share     StoreURL `key:"share"`     // where engines tell one another of models; Load has made it that of the history when empty
}

// Words that stand in Model in place of paths. A file of that name is written with a folder: ./default.
const (
	ModelDefault   = "default"
	ModelNone      = "none"
	LibraryBuiltin = "builtin"
)

// Database is a server for history, told in parts as platforms do. history.url wins over it.
type Database struct {
	Host     string `key:"host"`
	Port     int    `key:"port" range:"0..65535"` // 0 = the database's usual one
	User     string `key:"user"`
	Password Secret `key:"password"`
	Name     string `key:"name"`
}

// History says what is kept of the past, where and how long.
type History struct {
	// URL of the store: postgres://, mysql://, file: or empty for a file in Dir, "off" for none. Load has made it of
	// Database when that is set and this is not.
	URL StoreURL `key:"url"`
	// Dir holds what waits for the store, and the file when there is no server. One engine uses it at a time.
	Dir         string `key:"dir"`
	RawDays     int    `key:"raw_days" range:"0..3650"`         // 0 = forever
	RollupDays  int    `key:"rollup_days" range:"0..3650"`      // 0 = forever
	MaxMB       int    `key:"max_mb" range:"0..100000000"`      // of the file; 0 = no bound
	SpoolMB     int    `key:"spool_mb" range:"1..1000000"`      // of what waits for the store
	SampleAbove int    `key:"sample_above" range:"0..10000000"` // outcomes/s above which successes are sampled; 0 = never
}

// Pool is one upstream pool. Settings are complete: what the pool does not set itself it has from `defaults`.
type Pool struct {
	Name     string `key:"name"`
	Settings `key:",inline"`
	Peers    []Peer `key:"peers"`
	// Metrics are what its servers say about themselves. They are no setting: a list cannot be compared with ==.
	Metrics []Metric `key:"metrics"`

	// PeersFile holds more peers; the engine reads it again when it changes. Empty = none.
	PeersFile string `key:"peers_file"`
	DNS       []DNS  `key:"dns"` // names whose addresses are peers too

	// Split is none of Settings: groups are of one pool.
	Split Split `key:"split"`
	// ShadowOf names the pool whose requests NGINX mirrors to this one, to compare the two. Empty = none.
	ShadowOf string `key:"shadow_of"`

	Line        int     `key:"-"` // where it stands in the file; no part of what Equal compares
	PeersFileAt Finding `key:"-"` // where PeersFile was set, without a message; no part of it either
}

// Peer is one static member of a pool.
type Peer struct {
	// Address is canonical: "10.0.0.1:8080", "[::1]:9001" or "unix:/path". It is the peer's identity.
	Address string  `key:"address"`
	Weight  float64 `key:"weight" range:"0.01..1000"`
	Tier    int     `key:"tier" range:"0..15"` // 0 = primary, above = backup of that order
	Backup  Switch  `key:"backup"`             // short for tier 1; Parse makes Tier of it
	Zone    string  `key:"zone"`
	Group   string  `key:"group"` // what Split may send a share to
	// MaxInflight is the most requests in flight; 0 = what the pool's settings say.
	MaxInflight int `key:"max_inflight" range:"0..65535"`
}

// Settings is everything a pool has besides its name and peers. It holds no pointer, so two can be compared with ==.
type Settings struct {
	Policy    Policy    `key:"policy"`
	Objective Objective `key:"objective"`
	Classes   Classes   `key:"classes"`
	// Spread is how much dearer than the best, as a fraction, a peer may be and still be picked.
	Spread           float64 `key:"spread" range:"0..1"`
	Explore          float64 `key:"explore" range:"0..0.2"`
	Control          float64 `key:"control" range:"0..0.5"`
	MaxStaleMS       int     `key:"max_stale_ms" range:"1000..86400000"`
	ConnectTimeoutMS int     `key:"connect_timeout_ms" range:"1..75000"`
	Retry            Retry   `key:"retry"`
	Check            Check   `key:"check"`
	Eject            Eject   `key:"eject"`
	SlowStartMS      int     `key:"slow_start_ms" range:"0..3600000"`
	Tiers            Tiers   `key:"tiers"`
	// ZoneCost is how much dearer, as a fraction, a peer in another zone than the engine's is; ZoneCostMS is added to that.
	ZoneCost   float64  `key:"zone_cost" range:"0..100"`
	ZoneCostMS float64  `key:"zone_cost_ms" range:"0..60000"`
	Affinity   Affinity `key:"affinity"`

	Limit Limit `key:"limit"`
	// MaxInflight is the most requests in flight on a peer that does not say otherwise; 0 = no bound. QueueMS and QueueMax bound how long,
	// and how many at a time, requests wait for a peer that is not full.
	MaxInflight int `key:"max_inflight" range:"0..65535"`
	QueueMS     int `key:"queue_ms" range:"0..60000"`
	QueueMax    int `key:"queue_max" range:"0..100000"`

	LoadReport LoadReport `key:"load_report"`
	// Sizes: where requests carry a weight ($weir_weight), it counts in the choice, unless other engines send to the same peers.
	Sizes Switch `key:"sizes"`
	// Balancers is how many engines send requests to the pool's peers, this one included; 0 = to be found out by the answers.
	Balancers int `key:"balancers" range:"0..10000"`
}

// Tiers says when backups take part.
type Tiers struct {
	MinUsable float64 `key:"min_usable" range:"0.01..1"` // usable share of a tier, by weight, under which the next takes part
}

// LoadReport says what is made of the load that peers report with their answers (ORCA).
type LoadReport struct {
	Enabled    Switch `key:"enabled"`
	ExpireMS   int    `key:"expire_ms" range:"1000..86400000"` // without a report for so long, a peer's load is not known
	BlackoutMS int    `key:"blackout_ms" range:"0..3600000"`   // after a peer's first report, none is used for so long
}

// Classes bounds how many request classes are learned apart.
type Classes struct {
	Top int `key:"top" range:"1..1000"`
}

// Retry bounds further attempts on other peers.
type Retry struct {
	Tries     int     `key:"tries" range:"1..10"` // attempts in all, the first included
	TimeoutMS int     `key:"timeout_ms" range:"1..3600000"`
	Share     float64 `key:"share" range:"0..1"`           // retries may be at most this share of the requests
	MinPerS   float64 `key:"min_per_s" range:"0..1000000"` // but so many each second are always allowed
}

// Check is the active health check. The zero value means none.
type Check struct {
	Enabled    bool      `key:"-"` // true when `check` is in the file
	Path       string    `key:"path"`
	IntervalMS int       `key:"interval_ms" range:"100..3600000"`
	TimeoutMS  int       `key:"timeout_ms" range:"1..3600000"`
	Rise       int       `key:"rise" range:"1..100"` // passes in a row before a down peer is up
	Fall       int       `key:"fall" range:"1..100"` // failures in a row before an up peer is down
	Pass       StatusSet `key:"pass"`
	Host       string    `key:"host"` // Host header; empty = the peer's address
	Method     Method    `key:"method"`
	Protocol   Protocol  `key:"protocol"`
	// Certificate and CertificateKey are files in PEM: what is shown to peers that demand a certificate of their clients. Empty = none.
	Certificate    string `key:"certificate"`
	CertificateKey string `key:"certificate_key"`
}

// Eject is passive ejection, by the outcomes of users' requests.
type Eject struct {
	Consecutive  int     `key:"consecutive" range:"0..10000"` // failures in a row; 0 = this rule is off
	FailureShare float64 `key:"failure_share" range:"0..1"`   // share of failures in one interval; 0 = this rule is off
	MinRequests  int     `key:"min_requests" range:"1..1000000"`
	IntervalMS   int     `key:"interval_ms" range:"100..3600000"`
	BaseMS       int     `key:"base_ms" range:"1..3600000"` // the first ejection lasts so long, each further one longer
	MaxMS        int     `key:"max_ms" range:"1..86400000"`
	MaxShare     float64 `key:"max_share" range:"0..1"` // of the pool's peers ejected at one time; the last peer never is
}

// Default is the configuration of an empty file. Instance is left empty: Parse fills it with the host's name.
func Default() Config {
	return Config{
		Socket:    Socket{Path: "/run/weir/engine.sock", Mode: 0o660},
		Admin:     Admin{Listen: "127.0.0.1:9180"},
		Log:       Log{Level: "info"},
		RefreshMS: 100,
		Model:     Model{File: ModelDefault},
		Learn:     Learn{EveryMS: 600_000, WatchMS: 600_000, CPUShare: 0.1, MinDecisions: 2000, Decisions: 20_000, MaxMB: 32},
		History: History{
			Dir: "/var/lib/weir", RawDays: 7, RollupDays: 400, MaxMB: 4096, SpoolMB: 1024, SampleAbove: 20_000,
		},
		Defaults: DefaultSettings(),
	}
}

// DefaultSettings is what a pool has when neither it nor `defaults` says otherwise.
func DefaultSettings() Settings {
	return Settings{
		Policy:           Learned,
		Objective:        Mean,
		Classes:          Classes{Top: 50},
		Spread:           0.1,
		Explore:          0.01,
		Control:          0.02,
		MaxStaleMS:       30_000,
		ConnectTimeoutMS: 1000,
		Retry:            Retry{Tries: 3, TimeoutMS: 10_000, Share: 0.2, MinPerS: 10},
		Eject: Eject{
			Consecutive: 5, FailureShare: 0.5, MinRequests: 20, IntervalMS: 10_000,
			BaseMS: 1000, MaxMS: 60_000, MaxShare: 0.5,
		},
		SlowStartMS: 10_000,
		Tiers:       Tiers{MinUsable: 0.7},
		ZoneCost:    0.3,
		Affinity:    DefaultAffinity(),
		Limit:       DefaultLimit(),
		QueueMS:     100,
		QueueMax:    100,
		LoadReport:  LoadReport{Enabled: true, ExpireMS: 180_000, BlackoutMS: 10_000},
		Sizes:       true,
	}
}

// DefaultCheck is what `check: {}` stands for.
func DefaultCheck() Check {
	return Check{
		Enabled: true, Path: "/", IntervalMS: 2000, TimeoutMS: 1000, Rise: 2, Fall: 3,
		Pass: statusRange(200, 399), Method: "GET", Protocol: CheckHTTP,
	}
}

// Pool finds a pool by name; nil when there is none.
func (c *Config) Pool(name string) *Pool {
	for i := range c.Pools {
		if c.Pools[i].Name == name {
			return &c.Pools[i]
		}
	}
	return nil
}
