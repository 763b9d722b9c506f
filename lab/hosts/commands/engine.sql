-- SPDX-License-Identifier: GPL-3.0-or-later
-- The part of the engine's schema that backup, restore, setup and clean-up look at; columns shortened.
create table schema_version (id serial primary key, version varchar(10), script varchar(255), installed timestamptz default now(), current boolean);
create table vdc_options (option_id serial primary key, option_name varchar(100) not null, option_value text not null, version varchar(40) not null default 'general');
create table audit_log (audit_log_id bigserial primary key, log_time timestamptz not null default now(), log_type_name varchar(100), log_type integer not null, severity integer not null, message text not null, deleted boolean default false);
create table engine_backup_log (scope varchar(64), done_at timestamptz, is_passed boolean, output_message text, fqdn varchar(255), log_path text, primary key (scope, done_at));
create table vm_static (vm_guid uuid primary key, vm_name varchar(255) not null, description text, origin integer default 0);
create table vm_dynamic (vm_guid uuid primary key, status integer not null default 0, run_on_vds uuid);
create table vds_static (vds_id uuid primary key, vds_name varchar(255) not null, host_name varchar(255) not null);
create table vds_statistics (vds_id uuid primary key, ha_configured boolean default false, ha_active boolean default false, ha_global_maintenance boolean default false, ha_local_maintenance boolean default false, ha_score integer default 0);
create table images (image_guid uuid primary key, size bigint, imagestatus integer default 1);
create table async_tasks (task_id uuid primary key, action_type integer, started_at timestamptz default now());
create table async_tasks_entities (async_task_id uuid, entity_id uuid, entity_type varchar(128));
create table business_entity_snapshot (id uuid primary key, command_id uuid, entity_id varchar(128));
create table command_entities (command_id uuid primary key, command_type integer, status varchar(20));
create table job (job_id uuid primary key, action_type varchar(50), description text, status varchar(32));
create table step (step_id uuid primary key, job_id uuid, step_type varchar(32), status varchar(32));
create table dwh_history_timekeeping (var_name varchar(50) primary key, var_value varchar(255), var_datetime timestamptz);
create function LogEngineBackupEvent(v_scope varchar, v_done_at timestamptz, v_status integer, v_message text, v_fqdn varchar, v_log_path text) returns void as $$
declare
    what varchar := case v_status when 0 then 'ENGINE_BACKUP_STARTED' when 1 then 'ENGINE_BACKUP_COMPLETED' else 'ENGINE_BACKUP_FAILED' end;
begin
    insert into audit_log (log_time, log_type_name, log_type, severity, message)
        values (v_done_at, what, case v_status when 0 then 9024 when 1 then 9025 else 9026 end,
                case when v_status >= 0 then 0 else 2 end, v_message);
    if v_status <> 0 then
        insert into engine_backup_log (scope, done_at, is_passed, output_message, fqdn, log_path)
            values (v_scope, v_done_at, v_status = 1, v_message, v_fqdn, v_log_path)
            on conflict do nothing;
    end if;
    if v_status = 1 then
        update audit_log set deleted = true where log_type in (9022, 9023);
    end if;
end $$ language plpgsql;
insert into schema_version (version, script, current) values ('04050001', 'upgrade/04_05_0001_initial.sql', true);
insert into dwh_history_timekeeping (var_name, var_value) values ('DwhCurrentlyRunning', '0'), ('dwhHostname', ''), ('dwhUuid', '');
insert into vdc_options (option_name, option_value) values ('BackupCheckPeriodInHours', '6'), ('BackupAlertPeriodInDays', '1');
