-- Tell whether a session that was entered is still to live, now that it is stored.
-- KEYS  1 index
-- ARGV  1 slot; 2 the digest of a name that it has no more, or ''; 3 doom the oldest beyond
--       so many sessions, 0 for none; 4 1 if it is known whose sessions are no more, else '';
--       5.. slot and entry of each, which are not counted unless the entry has changed;
--       last nonce
-- Returns {nonce, outcome, {slot, entry, ...}} where outcome is
--   lives    and those follow that are doomed
--   crowded  and all others follow: they are to be looked at; nobody is doomed
--   gone     it may not live
-- Run twice, it tells the same.
local index, slot, most = KEYS[1], ARGV[1], tonumber(ARGV[3])
local over, nonce = texts_in(ARGV, 5), ARGV[#ARGV]
local entry = entry_in(redis.call('HGET', index, slot))
if not entry or entry.doomed then return {nonce, 'gone', {}} end
if ARGV[2] ~= '' or entry.joins then
  entry.names, entry.joins = without(entry.names, ARGV[2]), false
  redis.call('HSET', index, slot, text_of(entry))
end
if most == 0 then return {nonce, 'lives', {}} end

local others, doomed = {}, {}
for other, its in pairs(entries_of(index)) do
  its.slot = other
  if its.doomed then
    table.insert(doomed, its)
  elseif other ~= slot and over[other] ~= text_of(its) then
    table.insert(others, its)
  end
end
local is_crowded = ARGV[4] == '' and #others >= most
table.sort(others, function(a, b)
  return a.bound < b.bound or (a.bound == b.bound and a.slot < b.slot)
end)
for i = 1, is_crowded and 0 or #others + 1 - most do
  others[i].doomed = true
  redis.call('HSET', index, others[i].slot, text_of(others[i]))
  table.insert(doomed, others[i])
end
local told = {}
for _, its in ipairs(is_crowded and others or doomed) do
  table.insert(told, its.slot)
  table.insert(told, redis.call('HGET', index, its.slot))
end
return {nonce, is_crowded and 'crowded' or 'lives', told}
