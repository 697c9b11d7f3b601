package api

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// gone tells whether the client has closed the connection, which a request does not show that was sent whole before. One that has
// closed only its sending side is still there. Connections that cannot be asked count as there.
func gone(nc net.Conn) bool {
	if c, ok := nc.(*conn); ok {
		nc = c.Conn
	}
	s, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	hup := false
	_ = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 0)
		hup = err == nil && n > 0 && fds[0].Revents&unix.POLLHUP != 0
	})
	return hup
}
