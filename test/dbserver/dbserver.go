// Package dbserver starts real database servers for tests and benchmarks, each in a private folder that only its socket reaches.
// Debian's packages have the programs (postgresql, mariadb-server, pgbouncer); their services are not used.
package dbserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a running database server.
type Server struct {
	Dir  string // socket and data
	kind string
	run  []string
	own  *syscall.Credential // nil = as the test
	proc *exec.Cmd
	done chan struct{}
	made int
}

// who returns an unprivileged user when the test is root: database servers refuse to run as root.
func who(names ...string) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range append(names, "nobody") {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.own, Setpgid: true}
	return cmd
}

// newServer makes the folder.
func newServer(kind string, users ...string) (*Server, error) {
	s := &Server{kind: kind, own: who(users...)}
	var err error
	if s.Dir, err = os.MkdirTemp("", "weir-"+kind+"-"); err != nil {
		return nil, err
	}
	if s.own != nil {
		err = os.Chown(s.Dir, int(s.own.Uid), int(s.own.Gid))
	}
	return s, err
}

// ErrNotInstalled says that a server's programs are missing.
var ErrNotInstalled = errors.New("its programs are not installed")

// missing is the error for a server that is not there, by which a test is skipped; or fails, where TEST_ALL_SERVERS is set, as test/run.sh sets it. (Not
// WEIR_..., which are settings.)
func missing(what string) error {
	if os.Getenv("TEST_ALL_SERVERS") != "" {
		return fmt.Errorf("%s: %s", what, ErrNotInstalled)
	}
	return fmt.Errorf("%s: %w", what, ErrNotInstalled)
}

// Postgres starts PostgreSQL. The caller ends it with Remove.
func Postgres() (*Server, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return nil, missing("PostgreSQL")
	}
	slices.Sort(found)
	bin := filepath.Dir(found[len(found)-1])
	s, err := newServer("postgres", "postgres")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(s.Dir, "data")
	if text, err := s.command(filepath.Join(bin, "initdb"), "-D", data, "-U", "weir", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		s.Remove()
		return nil, fmt.Errorf("initdb: %w: %s", err, text)
	}
	s.run = []string{
		filepath.Join(bin, "postgres"), "-D", data, "-k", s.Dir, "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "shared_buffers=64MB", "-c", "max_wal_size=512MB",
	}
	if err := s.Start(); err != nil {
		s.Remove()
		return nil, err
	}
	return s, nil
}

// Start starts the server again after Stop or Kill.
func (s *Server) Start() error {
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.proc = s.command(s.run[0], s.run[1:]...)
	s.proc.Stdout, s.proc.Stderr = log, log
	if err := s.proc.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() { _ = s.proc.Wait(); close(s.done) }()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.done:
			text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
			return fmt.Errorf("%s ended at once: %s", s.kind, text)
		default:
		}
		if err = s.client("SELECT 1"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not answer: %w", s.kind, err)
}

// Stop ends the server in order.
func (s *Server) Stop() {
	signal := syscall.SIGINT // PostgreSQL: fast, not waiting for clients
	if s.kind != "postgres" {
		signal = syscall.SIGTERM
	}
	_ = s.proc.Process.Signal(signal)
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		s.Kill()
	}
}

// Kill ends the server as a crash does.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.done
}

// Freeze stops the server's processes as a black hole in the network would: nothing is answered, nothing is refused. Thaw ends it.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw lets the server go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	for _, pid := range s.Processes() {
		_ = syscall.Kill(pid, sig)
	}
}

// Processes returns the server, first, and the processes it started, which PostgreSQL puts into groups of their own.
func (s *Server) Processes() []int {
	parent := s.proc.Process.Pid
	pids := []int{parent}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		// pid (name) state parent: the name may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Remove ends the server and removes its folder.
func (s *Server) Remove() {
	if s.proc != nil && s.done != nil {
		s.Stop()
	}
	_ = os.RemoveAll(s.Dir)
}

// client runs a statement by the server's own client.
func (s *Server) client(sql string) error {
	var cmd *exec.Cmd
	if s.kind == "postgres" {
		cmd = s.command("/usr/bin/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", s.Dir, "-U", "weir", "-d", "postgres", "-c", sql)
	} else {
		cmd = s.command("/usr/bin/mariadb", "--no-defaults", "--socket="+filepath.Join(s.Dir, "socket"), "-u", "root", "-e", sql)
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", sql, err, text)
	}
	return nil
}

// SQL runs a statement as the administrator.
func (s *Server) SQL(sql string) error { return s.client(sql) }

// Database makes an empty database and returns its name and URL. It is not safe for concurrent use.
func (s *Server) Database() (name, url string, err error) {
	s.made++
	name = fmt.Sprintf("test%d", s.made)
	if s.kind == "postgres" {
		return name, fmt.Sprintf("postgres://weir@/%s?host=%s", name, s.Dir), s.client("CREATE DATABASE " + name)
	}
	return name, fmt.Sprintf("mysql://weir@/%s?socket=%s", name, filepath.Join(s.Dir, "socket")), s.client("CREATE DATABASE " + name)
}

// Pooler starts PgBouncer before a PostgreSQL, with three sessions for each database: in the mode transaction each transaction has the next
// free one, in the mode session each client one of its own. It returns a function that makes a URL of Database one that goes through it.
// The caller ends it with stop, before the server.
func (s *Server) Pooler(mode string) (through func(url string) string, stop func(), err error) {
	const program = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(program); err != nil {
		return nil, nil, missing("PgBouncer")
	}
	conf := filepath.Join(s.Dir, "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = host=%s user=weir\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = %s\nlisten_port = 6432\nauth_type = any\n"+
		"pool_mode = %s\ndefault_pool_size = 3\nlogfile = %s\n", s.Dir, s.Dir, mode, filepath.Join(s.Dir, "pgbouncer.log"))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, nil, err
	}
	cmd := s.command(program, "-q", conf)
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	socket := filepath.Join(s.Dir, ".s.PGSQL.6432")
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(socket)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return func(url string) string { return url + "&port=6432" }, stop, nil
		}
		if time.Now().After(end) {
			stop()
			return nil, nil, errors.New("PgBouncer does not listen")
		}
	}
}

// MariaDB starts MariaDB. The caller ends it with Remove.
func MariaDB() (*Server, error) {
	const program, install = "/usr/sbin/mariadbd", "/usr/bin/mariadb-install-db"
	if _, err := os.Stat(program); err != nil {
		return nil, missing("MariaDB")
	}
	s, err := newServer("mariadb", "mysql")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(s.Dir, "data")
	// A server that starts removes what is left of temporary tables in its folder for them: those of another one, were it /tmp for both.
	tmp := "--tmpdir=" + s.Dir
	if text, err := s.command(install, "--no-defaults", "--datadir="+data, tmp, "--auth-root-authentication-method=normal", "--skip-test-db").CombinedOutput(); err != nil {
		s.Remove()
		return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, text)
	}
	s.run = []string{
		program, "--no-defaults", "--datadir=" + data, tmp, "--socket=" + filepath.Join(s.Dir, "socket"), "--skip-networking",
		"--pid-file=" + filepath.Join(s.Dir, "pid"), "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=128M",
	}
	err = s.Start()
	if err == nil {
		err = s.client("CREATE USER weir@localhost; GRANT ALL PRIVILEGES ON *.* TO weir@localhost")
	}
	if err != nil {
		s.Remove()
		return nil, err
	}
	return s, nil
}
