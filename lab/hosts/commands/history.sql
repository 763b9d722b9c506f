-- SPDX-License-Identifier: GPL-3.0-or-later
-- The Data Warehouse's schema, shortened, with some samples.
create table history_configuration (var_name varchar(50) primary key, var_value varchar(255), var_datetime timestamptz);
create table calendar (the_datetime timestamptz primary key);
create table vm_samples_history (history_id bigserial primary key, history_datetime timestamptz not null, vm_id uuid, cpu_usage_percent smallint, memory_usage_percent smallint);
insert into history_configuration (var_name, var_value) values ('HourlyAggFailed', 'false'), ('MinimalETLVersion', '4.5.0');
insert into vm_samples_history (history_datetime, vm_id, cpu_usage_percent, memory_usage_percent)
    select now() - i * interval '1 minute', gen_random_uuid(), i % 100, (i * 7) % 100 from generate_series(1, 5000) i;
