-- Commit changes to a record that is there; give it a new key where asked.
-- KEYS  1 record; 2 target: the new key, or the record again; 3 lock, or the record again
-- ARGV  1 incarnation, '' for any; 2 version, '' for any;
--       3 token: the lock, if held at all, must hold it; '' for no such check
--       4 ttl in ms; 5 the session's own ttl in ms from now on, '' to leave it as it is;
--       6 max_lifetime in ms, 0 for none; 7 max_size in bytes; 8 life of a tombstone in ms;
--       9 rotate_grace in ms; 10 number of sets; 11 of deletions; 12 of additions;
--       13 the owner in whose index the target stands, '' for none; 14 until when, in ms
--       since the epoch, it stands there: no longer may the record live; 15 1 if that one
--       owns the session from now on, else ''; 16 touch_every in ms;
--       17.. field, value, base for each set; field, base for each deletion; field, number
--       for each addition; last nonce.
--       A base is what the field was read as: '=' and its value, or '#' and the SHA-1 of
--       it in hex; '-' for no such field; '' for no such check
-- Returns {nonce, outcome, version, incarnation, ...} where outcome is
--   stored   and for how many ms its owner's index is to prolong it, 0 unless that is due;
--            its owner, or ''; and what the fields that were added to hold now follow
--   absent   nothing of ours is there; destroyed: a tombstone
--   moved    and the key follows where it was moved to; the version is 1 if everybody may
--            still follow it there
--   gone     another incarnation lies there, or the target is taken
--   stale    another version than asked for
--   conflict and field, value (nil for none) follow of each that has another base
--   held     another holds the lock
--   owned    its owner's index does not have the target: the owner, its own ttl in ms or 0,
--            and created in ms follow
--   large    would exceed max_size
--   number   and the field follows: what it holds, or what is added, can't be counted
-- Nothing is written unless stored. Run twice, it finds its nonce in META and
-- reports what the first run did.
local record, target, lock, nonce = KEYS[1], KEYS[2], KEYS[3], ARGV[#ARGV]
local dels_at = 17 + 3 * ARGV[10]
local adds_at = dels_at + 2 * ARGV[11]
local adds_end = adds_at + 2 * ARGV[12] - 1

local function stored(key, meta, version, due)
  local answer = {nonce, 'stored', version, meta.incarnation, due, meta.owner or ''}
  for i = adds_at, adds_end, 2 do
    table.insert(answer, redis.call('HGET', key, ARGV[i]))
  end
  return answer
end

-- A second run, also where the record has been moved since.
local kind, meta = look_at(record)
local there, its_kind, its_meta, is_taken = record, kind, meta, false
if target ~= record and kind ~= 'moved' then
  there, its_kind, its_meta = target, look_at(target)
  is_taken = its_kind ~= 'absent'
end
for _ = 1, 16 do
  if its_kind ~= 'moved' then break end
  there = its_meta.key
  its_kind, its_meta = look_at(there)
end
if its_kind == 'alive' then
  local later = later_than(nonce, its_meta.nonces)
  if later then return stored(written_again(there), its_meta, its_meta.version - later, 0) end
end

-- May it be written to? Where it has ended since it was moved nothing can tell whether this
-- is a second run: neither is a lost lock the reason.
if kind == 'moved' and ARGV[1] ~= '' and its_kind ~= 'alive' and its_kind ~= 'moved' then
  kind = its_kind
end
if kind == 'foreign' then kind = 'absent' end
if kind == 'moved' then
  return {nonce, kind, now_ms() < meta.till and 1 or 0, '', meta.key}
end
if kind ~= 'alive' then return {nonce, kind, 0, ''} end
if is_taken then return {nonce, 'gone', 0, ''} end
local function refused(outcome, detail)
  return {nonce, outcome, meta.version, meta.incarnation, detail}
end
if ARGV[1] ~= '' and ARGV[1] ~= meta.incarnation then return refused('gone') end

local own = tonumber(ARGV[5]) or meta.ttl
local left = left_for(own or tonumber(ARGV[4]), meta.created, tonumber(ARGV[6]))
if left <= 0 then
  redis.call('UNLINK', record)
  return {nonce, 'absent', 0, ''}
end

if ARGV[3] ~= '' then
  local holder = redis.pcall('GET', lock)
  if type(holder) == 'string' and holder ~= ARGV[3] then return refused('held') end
end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= meta.version then return refused('stale') end

local owner = ARGV[15] == '1' and ARGV[13] or meta.owner
if target ~= record and owner and owner ~= ARGV[13] then
  return {nonce, 'owned', meta.version, meta.incarnation, owner, meta.ttl or 0,
    string.format('%.0f', meta.created)}
end

local conflict, lengths = nil, {}
local function value_of(field)
  local value = redis.call('HGET', record, field)
  lengths[field] = value and #value
  return value
end
local function compare(field, base)
  if base == '' then return end
  local stored, now = value_of(field), '-'
  if stored then
    now = string.sub(base, 1, 1) == '#' and '#' .. redis.sha1hex(stored) or '=' .. stored
  end
  if now ~= base then
    conflict = conflict or refused('conflict')
    table.insert(conflict, field)
    table.insert(conflict, stored)
  end
end
for i = 17, dels_at - 1, 3 do compare(ARGV[i], ARGV[i + 2]) end
for i = dels_at, adds_at - 1, 2 do compare(ARGV[i], ARGV[i + 1]) end
if conflict then return conflict end

-- Can it be written?
local size, sets, deletions = meta.size, {META, ''}, {}
local function length_of(field) -- false where there is none
  local length = lengths[field]
  if length == nil then length = redis.call('HSTRLEN', record, field) end
  return (length ~= 0 or redis.call('HEXISTS', record, field) == 1) and length
end
local function grow(field, bytes)
  size = size + bytes - (length_of(field) or -#field)
end

local function is_int(text)
  local digits = string.match(text, '^-?([1-9]%d*)$')
  return text == '0' or (digits and #digits <= 18)
end

local function is_number(text)
  return is_int(text) or string.find(text, '^-?%d+%.%d+$')
    or string.find(text, '^-?%d+%.?%d*[eE][+-]?%d+$')
end

-- The text of a sum. Ints are raised by HINCRBY, which is exact beyond 2^53.
local function sum_of(stored, by)
  if not (is_number(stored) and is_number(by)) then return nil end
  local sum = tonumber(stored) + tonumber(by)
  if is_int(stored) and is_int(by) then return string.format('%.0f', sum), true end
  if sum ~= sum or sum == math.huge or sum == -math.huge then return nil end
  local text = string.format('%.17g', sum)
  return string.find(text, '[.e]') and text or text .. '.0', false
end

for i = 17, dels_at - 1, 3 do
  grow(ARGV[i], #ARGV[i + 1])
  table.insert(sets, ARGV[i])
  table.insert(sets, ARGV[i + 1])
end
for i = dels_at, adds_at - 1, 2 do
  local length = length_of(ARGV[i])
  if length then size = size - #ARGV[i] - length end
  table.insert(deletions, ARGV[i])
end
local sums, ints = {}, {}
for i = adds_at, adds_end, 2 do
  sums[i], ints[i] = sum_of(value_of(ARGV[i]) or '0', ARGV[i + 1])
  if not sums[i] then return refused('number', ARGV[i]) end
  grow(ARGV[i], #sums[i])
end
if size > meta.size and size > tonumber(ARGV[7]) then return refused('large') end

-- Write. A server without memory refuses the first write only: it must be one that takes
-- some, which a deletion is not.
for i, sum in pairs(sums) do
  if ints[i] then
    redis.call('HINCRBY', record, ARGV[i], ARGV[i + 1])
    if math.abs(sum) > 2^53 then -- its text is not exact
      size = size - #sum + redis.call('HSTRLEN', record, ARGV[i])
    end
  else
    table.insert(sets, ARGV[i])
    table.insert(sets, sum)
  end
end
meta.version, meta.size, meta.ttl, meta.owner = meta.version + 1, size, own, owner
sets[2] = packed(meta, nonce)
in_parts('HSET', record, sets, 1, #sets)
in_parts('HDEL', record, deletions, 1, #deletions)
if target ~= record then
  redis.call('RENAME', record, target)
  local till = ARGV[9] == '0' and 0 or now_ms() + ARGV[9]
  redis.call('SET', record, string.format('moved %.0f %s', till, target),
    'PX', math.max(ARGV[8], ARGV[9]))
end

-- What somebody owns lives for no longer than its owner's index knows it.
local due = 0
if owner and ARGV[14] ~= '' then
  left = math.min(left, ARGV[14] - now_ms())
elseif owner then
  local now = redis.call('PTTL', target)
  if is_due(now, left, ARGV[16], tonumber(ARGV[4])) then due = left end
  left = now < 0 and left or math.min(left, now)
end
redis.call('PEXPIRE', target, left)
return stored(target, meta, meta.version, due)
