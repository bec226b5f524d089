package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// A server is redis-server or memcached, started by us with persistence off and one worker thread.
type server struct {
	cmd   *exec.Cmd
	conn  net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	empty int64 // RSS before there was anything in it
}

// Where the servers listen while they are measured.
const (
	redisPort     = "17011"
	memcachedPort = "17012"
)

func startServer(port, name string, args ...string) (*server, error) {
	if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("somebody else serves port %s, where %s was to be measured", port, name)
	}
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive us
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd}
	for tries := 0; ; tries++ {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			s.conn, s.in, s.out = conn, bufio.NewReaderSize(conn, 1<<18), bufio.NewWriterSize(conn, 1<<18)
			break
		}
		if tries == 100 {
			s.stop()
			return nil, fmt.Errorf("%s did not start: %w", name, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return s, nil
}

func startRedis() (*server, error) {
	s, err := startServer(redisPort, "redis-server", "--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", os.TempDir())
	if err != nil {
		return nil, err
	}
	s.empty = s.rss()
	return s, nil
}

func startMemcached(megabytes int) (*server, error) {
	args := []string{"-p", memcachedPort, "-l", "127.0.0.1", "-U", "0", "-t", "1", "-m", strconv.Itoa(megabytes), "-M"}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	s, err := startServer(memcachedPort, "memcached", args...)
	if err != nil {
		return nil, err
	}
	s.empty = s.rss()
	return s, nil
}

func (s *server) rss() int64 { return rss(strconv.Itoa(s.cmd.Process.Pid)) }

// stop ends the process that we started.
func (s *server) stop() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // says that it was killed
}

// pipeline writes n requests and reads n answers at the same time.
func (s *server) pipeline(n int, write func(i int), read func() error) error {
	done := make(chan error, 1)
	go func() {
		for range n {
			if err := read(); err != nil {
				done <- err
				_ = s.conn.Close()
				return
			}
		}
		done <- nil
	}()
	for i := range n {
		write(i)
	}
	_ = s.out.Flush() // the reader sees what went wrong
	return <-done
}

// command writes a Redis command.
func (s *server) command(args ...[]byte) {
	var number [20]byte
	length := func(kind byte, n int) {
		_ = s.out.WriteByte(kind)
		_, _ = s.out.Write(strconv.AppendInt(number[:0], int64(n), 10))
		_, _ = s.out.WriteString("\r\n")
	}
	length('*', len(args))
	for _, a := range args {
		length('$', len(a))
		_, _ = s.out.Write(a)
		_, _ = s.out.WriteString("\r\n")
	}
}

// reply reads an answer of Redis's and returns its last string.
func (s *server) reply() (last []byte, err error) {
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	line = bytes.TrimRight(line, "\r\n")
	switch line[0] {
	case '-':
		return nil, errors.New(string(line))
	case '$':
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil || n < 0 {
			return nil, err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(s.in, text)
		return text[:n], err
	case '*':
		n, err := strconv.Atoi(string(line[1:]))
		for range n {
			if last, err = s.reply(); err != nil {
				return nil, err
			}
		}
		return last, err
	default:
		return bytes.Clone(line[1:]), nil
	}
}

func (s *server) skip() error {
	_, err := s.reply()
	return err
}

// ask sends Redis one command.
func (s *server) ask(args ...string) (string, error) {
	var list [][]byte
	for _, a := range args {
		list = append(list, []byte(a))
	}
	s.command(list...)
	if err := s.out.Flush(); err != nil {
		return "", err
	}
	text, err := s.reply()
	return string(text), err
}

// settled waits until a server has nothing more to tidy up and returns how much its RSS has grown.
func (s *server) settled(redis bool) (int64, error) {
	time.Sleep(time.Second) // the end of a rehash
	if redis {
		if _, err := s.ask("MEMORY", "PURGE"); err != nil {
			return 0, err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return s.rss() - s.empty, nil
}

// redisItems measures bytes of RSS for each of n items in redis-server.
func redisItems(n int, lifetime bool) (float64, error) {
	s, err := startRedis()
	if err != nil {
		return 0, err
	}
	defer s.stop()
	set, px, key := []byte("SET"), []byte("PX"), make([]byte, keySize)
	err = s.pipeline(n, func(i int) {
		putKey(key, uint64(i))
		if lifetime {
			s.command(set, key, valueFor(key), px, lifetimeOf(key).text)
		} else {
			s.command(set, key, valueFor(key))
		}
	}, s.skip)
	if err != nil {
		return 0, err
	}
	if count, err := s.ask("DBSIZE"); err != nil || count != strconv.Itoa(n) {
		return 0, fmt.Errorf("redis-server has %s of %d items: %w", count, n, err)
	}
	grown, err := s.settled(true)
	return float64(grown) / float64(n), err
}

var currentItems = regexp.MustCompile(`STAT curr_items (\d+)`)

// memcachedItems does the same with memcached.
func memcachedItems(n int, lifetime bool) (float64, error) {
	s, err := startMemcached(64 + n/5000)
	if err != nil {
		return 0, err
	}
	defer s.stop()
	key := make([]byte, keySize)
	err = s.pipeline(n, func(i int) {
		putKey(key, uint64(i))
		seconds := 0
		if lifetime {
			seconds = lifetimeOf(key).ms / 1000
		}
		fmt.Fprintf(s.out, "set %s 0 %d %d\r\n%s\r\n", key, seconds, valueSize, valueFor(key))
	}, func() error {
		line, err := s.in.ReadSlice('\n')
		if err == nil && string(line) != "STORED\r\n" {
			err = fmt.Errorf("memcached said %q", line)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	grown, err := s.settled(false)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(s.out, "stats\r\n")
	if err := s.out.Flush(); err != nil {
		return 0, err
	}
	for {
		line, err := s.in.ReadString('\n')
		if err != nil || line == "END\r\n" {
			return float64(grown) / float64(n), err
		}
		if found := currentItems.FindStringSubmatch(line); found != nil && found[1] != strconv.Itoa(n) {
			return 0, fmt.Errorf("memcached has %s of %d items", found[1], n)
		}
	}
}

// redisBoard measures a sorted set in redis-server; its times are the server's own, in nanoseconds.
func redisBoard(n int) (b Board, err error) {
	s, err := startRedis()
	if err != nil {
		return b, err
	}
	defer s.stop()
	dice := rand.New(rand.NewPCG(21, 22))
	zadd, key, text := []byte("ZADD"), make([]byte, keySize), make([]byte, 0, 64)
	err = s.pipeline(n, func(i int) {
		putKey(key, uint64(i))
		text = appendScore(text[:0], dice)
		s.command(zadd, boardName, text, key)
	}, s.skip)
	if err != nil {
		return b, err
	}
	grown, err := s.settled(true)
	if err != nil {
		return b, err
	}
	usage, err := s.ask("MEMORY", "USAGE", string(boardName))
	if err != nil {
		return b, err
	}
	bytes, err := strconv.ParseFloat(usage, 64)
	if err != nil {
		return b, err
	}
	b.PerMember, b.Usage = float64(grown)/float64(n), bytes/float64(n)
	if _, err := s.ask("CONFIG", "RESETSTAT"); err != nil {
		return b, err
	}
	members, end := newWalk(n, 3000), make([]byte, 0, 32)
	zrank, zrange := []byte("ZRANK"), []byte("ZRANGE")
	err = s.pipeline(3*boardOps, func(i int) {
		switch i / batch % 3 {
		case 0:
			members.fill(key)
			text = appendScore(text[:0], dice)
			s.command(zadd, boardName, text, key)
		case 1:
			members.fill(key)
			s.command(zrank, boardName, key)
		default:
			from := dice.IntN(max(1, n-10))
			text = strconv.AppendInt(text[:0], int64(from), 10)
			end = strconv.AppendInt(end[:0], int64(from+9), 10)
			s.command(zrange, boardName, text, end)
		}
	}, s.skip)
	if err != nil {
		return b, err
	}
	stats, err := s.ask("INFO", "commandstats")
	for name, into := range map[string]*Latency{"zadd": &b.Add, "zrank": &b.Rank, "zrange": &b.Range} {
		found := regexp.MustCompile(`cmdstat_` + name + `:.*usec_per_call=([0-9.]+)`).FindStringSubmatch(stats)
		if found == nil {
			return b, fmt.Errorf("redis-server told nothing of %s", name)
		}
		usec, _ := strconv.ParseFloat(found[1], 64)
		into.Mean = usec * 1000
	}
	return b, err
}
