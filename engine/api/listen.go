package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weirlb/weir/engine/config"
)

// listenUnix makes the socket with its mode and group, and returns what its file is.
//
// A file left by an engine that was killed is removed; one that something answers on is refused. From bind to chmod the file
// has no permissions at all, so nobody connects before mode and group are what they should be.
func listenUnix(c config.Socket) (*net.UnixListener, fs.FileInfo, error) {
	gid, err := c.GID()
	if err != nil {
		return nil, nil, fmt.Errorf("socket.group: %w", err)
	}
	dir := filepath.Dir(c.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("making the folder of the socket %s: %w", c.Path, err)
	}
	unlock, err := lockFolder(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("locking the folder of the socket %s: %w", c.Path, err)
	}
	defer unlock()
	if err := clearStale(c.Path); err != nil {
		return nil, nil, err
	}
	ln, err := bindUnix(c.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("listening on the socket %s: %w", c.Path, err)
	}
	ours, err := permit(c.Path, gid, os.FileMode(c.Mode))
	if err != nil {
		_ = ln.Close()
		_ = os.Remove(c.Path)
		return nil, nil, err
	}
	return ln, ours, nil
}

// bindUnix sets the mode on the descriptor, which is what Linux makes the file with. The process's umask is not touched: where the socket is remade while the
// engine runs, files that were made at that moment (history, models) had no permissions either, and were not opened again.
func bindUnix(path string) (*net.UnixListener, error) {
	conf := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if told := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0) }); told != nil {
			return told
		}
		return err
	}}
	ln, err := conf.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	unix := ln.(*net.UnixListener)
	unix.SetUnlinkOnClose(false)
	return unix, nil
}

func permit(path string, gid int, mode os.FileMode) (fs.FileInfo, error) {
	if gid >= 0 {
		if err := os.Lchown(path, -1, gid); err != nil {
			return nil, fmt.Errorf("giving the socket %s its group: %w", path, err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, fmt.Errorf("giving the socket %s its mode: %w", path, err)
	}
	return os.Lstat(path)
}

// lockFolder keeps two engines that start at one time from removing each other's socket. The lock is on the folder
// itself, ends with the process, and leaves no file.
func lockFolder(dir string) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() {
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) // closing alone keeps it while a process is being started beside (engine/learn/exchange)
		_ = f.Close()
	}, nil
}

// clearStale removes a socket file that nobody listens on.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the socket %s: %w", path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s exists and is no socket: it is left alone; remove it or set another socket.path", path)
	}
	nc, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = nc.Close()
		return fmt.Errorf("another engine answers on %s: stop it first, or set another socket.path", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("removing the socket left by an engine that was killed: %w", err)
		}
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("finding out whether another engine answers on %s: %w", path, err)
}
