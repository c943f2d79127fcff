-- Have an owner's index know a session for longer, or under one more name, or at all.
-- KEYS  1 index
-- ARGV  1 slot; 2 digest, or '' for no new name; 3 for how many ms; 4 the end of the session's
--       life in ms since the epoch, 0 for none; 5 1 to make an entry, '' for one that must be
--       there; 6 created in ms, '' for now; 7 note; 8 refuse it beside so many sessions, 0
--       for any number; 9 1 if it is not the owner's yet, else ''; 10.. slot and entry of
--       each whose session is no more, which is not counted, unless it is being bound or
--       the entry has changed; last nonce
-- Returns {nonce, outcome} where outcome is
--   entered  and until when in ms since the epoch follows
--   gone     it is not there, or doomed
--   full     so many others are there
--   left     as it is: it was only to be known for longer, and the server takes no writes
-- Unless entered, nothing is written.
local index, slot, most = KEYS[1], ARGV[1], tonumber(ARGV[8])
local binds, now, last = ARGV[5] == '1', now_ms(), tonumber(ARGV[4])
local joins, over, nonce = ARGV[9] == '1', texts_in(ARGV, 10), ARGV[#ARGV]
local till = now + ARGV[3]
if last > 0 then till = math.min(till, last) end
local entry = entry_in(redis.call('HGET', index, slot))
if entry and entry.till <= now then entry = nil end
if entry and entry.doomed or not entry and not binds then return {nonce, 'gone'} end

if binds then
  local others = 0
  for other, its in pairs(entries_of(index)) do
    local counts = its.joins or not (its.doomed or over[other] == text_of(its))
    if other ~= slot and counts then others = others + 1 end
  end
  if most > 0 and joins and others >= most then return {nonce, 'full'} end
  entry = entry or {bound = now, created = tonumber(ARGV[6]) or now, names = '', till = 0}
  entry.note, entry.joins = ARGV[7], entry.joins or joins
end
till = math.max(till, entry.till) -- what others were told of stays true
entry.till, entry.used = till, now
if ARGV[2] ~= '' then entry.names = with(entry.names, ARGV[2]) end
local written = redis.pcall('HSET', index, slot, text_of(entry))
if type(written) == 'table' then
  if binds or ARGV[2] ~= '' then return written end
  return {nonce, 'left'}
end
if redis.call('PTTL', index) < till - now then
  redis.call('PEXPIREAT', index, string.format('%.0f', till))
end
return {nonce, 'entered', string.format('%.0f', till)}
